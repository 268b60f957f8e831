import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import {
  type ExecutionArgs,
  GraphQLError,
  getOperationAST,
  NoSchemaIntrospectionCustomRule,
  parse,
  specifiedRules,
  validate,
} from "graphql";
import { CloseCode, handleProtocols, type SubscribePayload } from "graphql-ws";
import { type Extra, useServer as serve } from "graphql-ws/use/ws";
import { type WebSocket, WebSocketServer } from "ws";
import { AppError } from "../core/errors.ts";
import type { GraphContext } from "../graphql/context.ts";
import { formatFault, type LogFault } from "../graphql/errors.ts";
import { LIMITS, limitRules } from "../graphql/limits.ts";
import { schema } from "../graphql/schema.ts";
import type { RegistryContext } from "../registry/context.ts";
import { type Identity, identify, identifyToken, isSameOrigin, NOBODY } from "./identity.ts";

/** Subscriptions of one connection at once. */
export const MAX_SUBSCRIPTIONS = 50;
/** Connections of the whole server at once; each costs memory until it goes. */
const MAX_CONNECTIONS = 1000;
const MAX_MESSAGE = 256 * 1024;

export interface SubscriptionOptions {
  readonly registry: RegistryContext;
  readonly introspection: boolean;
  readonly logFault: LogFault;
  readonly newRequestId: () => string;
  /** How often an open connection is asked again who it is, in milliseconds. */
  readonly recheckMs: number;
}

/** What is kept of a connection. */
interface Kept {
  identity?: Identity;
  timer?: NodeJS.Timeout;
  /** Ids of the operations that run. */
  open?: Set<string>;
}

type Connection = Extra & Kept;

/** GraphQL over WebSockets (graphql-transport-ws) at `/graphql`. */
export function serveSubscriptions(server: Server, options: SubscriptionOptions): { close(): Promise<void> } {
  const sockets = new WebSocketServer({ noServer: true, handleProtocols, maxPayload: MAX_MESSAGE });
  const rules = [
    ...specifiedRules,
    ...limitRules(LIMITS),
    ...(options.introspection ? [] : [NoSchemaIntrospectionCustomRule]),
  ];
  const format = (error: GraphQLError, requestId: string) =>
    formatFault(error, { requestId, log: options.logFault });
  const disposable = serve<{ token?: unknown }, Kept & Record<PropertyKey, unknown>>(
    {
      schema,
      connectionInitWaitTimeout: 10_000,
      onConnect: async ({ extra, connectionParams }) => {
        try {
          extra.identity = await whoConnects(options.registry, extra.request, connectionParams);
          recheck(options, extra, connectionParams);
          return true;
        } catch (error) {
          refuse(extra.socket, error);
          return false;
        }
      },
      onDisconnect: ({ extra }) => clearTimeout(extra.timer),
      onSubscribe: async ({ extra, connectionParams }, id, payload) => {
        const args = prepare(payload, rules);
        if (Array.isArray(args)) return args;
        extra.open ??= new Set();
        if (extra.open.size >= MAX_SUBSCRIPTIONS) return [tooMany()];
        // Taken before anything is awaited: a hundred requests may arrive at once.
        extra.open.add(id);
        try {
          // Asked again for each operation: roles may have changed since the connection was made.
          const { viewer } = await whoConnects(options.registry, extra.request, connectionParams);
          const contextValue: GraphContext = {
            ...options.registry,
            viewer,
            requestId: options.newRequestId(),
          };
          return { ...args, contextValue };
        } catch (error) {
          extra.open.delete(id);
          const originalError = error as Error;
          return [new GraphQLError(originalError.message, { originalError })];
        }
      },
      onNext: (_, __, ___, args, result) => {
        if (!result.errors?.length) return;
        const { requestId } = args.contextValue as GraphContext;
        return { data: result.data ?? null, errors: result.errors.map((error) => format(error, requestId)) };
      },
      // Refused before it ran, so that no context names the request yet.
      onError: (_, __, ___, errors) => {
        const requestId = options.newRequestId();
        return errors.map((error) => format(error as GraphQLError, requestId));
      },
      onComplete: ({ extra }, id) => void extra.open?.delete(id),
    },
    sockets,
    15_000,
  );
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const full = sockets.clients.size >= MAX_CONNECTIONS;
    if (full || new URL(request.url ?? "/", "http://localhost").pathname !== "/graphql") {
      socket.end(
        `HTTP/1.1 ${full ? "503 Service Unavailable" : "404 Not Found"}\r\nconnection: close\r\n\r\n`,
      );
      return;
    }
    sockets.handleUpgrade(request, socket, head, (client) => sockets.emit("connection", client, request));
  };
  server.on("upgrade", upgrade);
  return {
    close: async () => {
      server.off("upgrade", upgrade);
      await disposable.dispose();
    },
  };
}

/**
 * Who a connection is from: the token of its first message, else the cookie of its request, for which alone the page
 * must be one of ours: browsers let any page open a socket and send the cookie along.
 * @throws UNAUTHENTICATED, ORIGIN
 */
async function whoConnects(
  registry: RegistryContext,
  request: IncomingMessage,
  params: Readonly<{ token?: unknown }> | undefined,
): Promise<Identity> {
  if (typeof params?.token === "string") return await identifyToken(registry, params.token);
  const { cookie, authorization } = request.headers;
  if (cookie === undefined && authorization === undefined) return NOBODY;
  if (!isSameOrigin(request.headers)) {
    throw new AppError("ORIGIN", "A session cookie serves pages of this server only.");
  }
  return await identify(registry, request.headers);
}

/** Closes a connection whose token or session ended meanwhile, and asks again at its expiry and every so often. */
function recheck(
  options: SubscriptionOptions,
  extra: Connection,
  params: { token?: unknown } | undefined,
): void {
  const { registry, recheckMs } = options;
  const { expiresAt } = extra.identity ?? NOBODY;
  const left = expiresAt ? expiresAt.getTime() - registry.now().getTime() : Number.POSITIVE_INFINITY;
  extra.timer = setTimeout(
    async () => {
      try {
        const before = extra.identity?.viewer.accountId;
        extra.identity = await whoConnects(registry, extra.request, params);
        if (extra.identity.viewer.accountId !== before)
          throw new AppError("UNAUTHENTICATED", "The session has ended.");
        recheck(options, extra, params);
      } catch (error) {
        refuse(extra.socket, error);
      }
    },
    Math.max(0, Math.min(left, recheckMs)),
  );
  extra.timer.unref();
}

function refuse(socket: WebSocket, error: unknown): void {
  if (error instanceof AppError) {
    // The protocol leaves 123 bytes for a reason.
    socket.close(CloseCode.Forbidden, Buffer.from(error.message).subarray(0, 120).toString("utf8"));
  } else socket.close(CloseCode.InternalServerError, "INTERNAL");
}

/** Parses and checks an operation as it is for HTTP; errors for one that may not run. */
function prepare(
  payload: SubscribePayload,
  rules: Parameters<typeof validate>[2],
): ExecutionArgs | GraphQLError[] {
  try {
    const document = parse(payload.query, { maxTokens: LIMITS.tokens });
    const errors = validate(schema, document, rules);
    if (errors.length > 0) return [...errors];
    const operation = getOperationAST(document, payload.operationName);
    if (!operation) return [new GraphQLError("The document has no operation of that name.")];
    if (operation.operation === "mutation") {
      return [new GraphQLError("Send mutations by POST.", { extensions: { code: "BAD_REQUEST" } })];
    }
    return {
      schema,
      document,
      operationName: payload.operationName ?? null,
      variableValues: payload.variables ?? null,
    };
  } catch (error) {
    return [error as GraphQLError];
  }
}

function tooMany(): GraphQLError {
  return new GraphQLError(
    `A connection follows at most ${MAX_SUBSCRIPTIONS} things at once. Open another one.`,
    {
      extensions: { code: "LIMIT_EXCEEDED" },
    },
  );
}
