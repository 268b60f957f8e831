import { randomUUID } from "node:crypto";
import type { ApolloServer } from "@apollo/server";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { createApollo, type RequestContext } from "../../src/http/graphql.ts";
import type { ViewerContext } from "../../src/registry/context.ts";

export interface Fault {
  readonly requestId: string;
  readonly error: unknown;
}

export interface Answer {
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly data: any;
  readonly errors: readonly {
    message: string;
    path?: readonly unknown[];
    extensions?: Record<string, unknown>;
  }[];
}

export interface TestApi {
  readonly apollo: ApolloServer<RequestContext>;
  /** What was logged instead of shown. */
  readonly faults: Fault[];
  /** Executes an operation as somebody, without HTTP. */
  ask(as: ViewerContext, query: string, variables?: Record<string, unknown>): Promise<Answer>;
}

export async function testApi(introspection = true): Promise<TestApi> {
  const faults: Fault[] = [];
  const apollo = createApollo({ introspection, logFault: (fault) => faults.push(fault) });
  await apollo.start();
  return {
    apollo,
    faults,
    ask: async (as, query, variables = {}) => {
      const contextValue: RequestContext = { ...as, requestId: `test-${randomUUID()}`, mayChange: true };
      const { body } = await apollo.executeOperation({ query, variables }, { contextValue });
      if (body.kind !== "single") throw new Error("an answer in parts");
      // As JSON, like a client gets it.
      const { data = null, errors = [] } = JSON.parse(JSON.stringify(body.singleResult));
      return { data, errors };
    },
  };
}

/** Somebody who has not signed in. */
export function stranger(of: ViewerContext): ViewerContext {
  return { ...of, viewer: ANONYMOUS };
}
