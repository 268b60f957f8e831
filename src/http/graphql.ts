import { ApolloServer, type ApolloServerPlugin, HeaderMap } from "@apollo/server";
import { unwrapResolverError } from "@apollo/server/errors";
import { ApolloServerPluginLandingPageDisabled } from "@apollo/server/plugin/disabled";
import { GraphQLError, type GraphQLFormattedError } from "graphql";
import type { GraphContext } from "../graphql/context.ts";
import { formatFault, type LogFault } from "../graphql/errors.ts";
import { LIMITS, limitRules } from "../graphql/limits.ts";
import { schema } from "../graphql/schema.ts";
import type { RegistryContext } from "../registry/context.ts";
import { type Exchange, methodNotAllowed, readJson } from "./answer.ts";
import { identify } from "./identity.ts";
import { csrfMissing } from "./sessions.ts";

/** A request's context, with whether it may change anything. */
export interface RequestContext extends GraphContext {
  readonly mayChange: boolean;
}

export interface ApolloOptions {
  readonly introspection: boolean;
  readonly logFault: LogFault;
}

/** The GraphQL server without a transport; tests execute operations on it. Start it before use. */
export function createApollo({ introspection, logFault }: ApolloOptions): ApolloServer<RequestContext> {
  // formatError knows no request, so the ids of errors are noted where both are known.
  const requestIds = new WeakMap<object, string>();
  const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  return new ApolloServer<RequestContext>({
    schema,
    introspection,
    hideSchemaDetailsFromClientErrors: !introspection,
    allowBatchedHttpRequests: false,
    csrfPrevention: true,
    includeStacktraceInErrorResponses: false,
    stopOnTerminationSignals: false,
    persistedQueries: false,
    // What is worth logging is logged by us, with its request id.
    logger: quiet,
    parseOptions: { maxTokens: LIMITS.tokens },
    validationRules: limitRules(LIMITS),
    plugins: [ApolloServerPluginLandingPageDisabled(), noteRequest(requestIds), requireCsrf()],
    formatError: (formatted, error) => format({ formatted, error, requestIds, logFault }),
  });
}

function noteRequest(requestIds: WeakMap<object, string>): ApolloServerPlugin<RequestContext> {
  return {
    requestDidStart: async () => ({
      didEncounterErrors: async ({ errors, contextValue }) => {
        for (const error of errors) requestIds.set(error, contextValue.requestId);
      },
    }),
  };
}

function requireCsrf(): ApolloServerPlugin<RequestContext> {
  return {
    requestDidStart: async () => ({
      didResolveOperation: async ({ operation, contextValue }) => {
        if (operation?.operation !== "mutation" || contextValue.mayChange) return;
        const { code, message } = csrfMissing();
        throw new GraphQLError(message, { extensions: { code, http: { status: 403 } } });
      },
    }),
  };
}

interface Formatting {
  readonly formatted: GraphQLFormattedError;
  readonly error: unknown;
  readonly requestIds: WeakMap<object, string>;
  readonly logFault: LogFault;
}

function format({ formatted, error, requestIds, logFault }: Formatting): GraphQLFormattedError {
  const requestId = (typeof error === "object" && error && requestIds.get(error)) || "";
  if (error instanceof GraphQLError) return formatFault(error, { requestId, log: logFault });
  // Thrown before an operation was known, by Apollo itself or by our own context function.
  const wrapped = new GraphQLError(formatted.message, {
    originalError: unwrapResolverError(error) as Error,
    extensions: formatted.extensions ?? {},
  });
  return formatFault(wrapped, { requestId, log: logFault });
}

/** `/graphql`: POST, and GET for queries, as the GraphQL over HTTP specification says. */
export async function handleGraphql(
  apollo: ApolloServer<RequestContext>,
  registry: RegistryContext,
  exchange: Exchange,
): Promise<void> {
  const { request, response, requestId, url } = exchange;
  const { method = "GET" } = request;
  if (method !== "POST" && method !== "GET" && method !== "HEAD")
    throw methodNotAllowed(exchange, "GET, POST");
  const { viewer, mayChange } = await identify(registry, request.headers);
  const headers = new HeaderMap();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  const body = method === "POST" ? await readJson(request) : undefined;
  const answer = await apollo.executeHTTPGraphQLRequest({
    httpGraphQLRequest: { method, headers, search: url.search, body },
    context: async () => ({ ...registry, viewer, requestId, mayChange }),
  });
  for (const [name, value] of answer.headers) response.setHeader(name, value);
  response.statusCode = answer.status ?? 200;
  if (answer.body.kind === "complete") {
    response.end(method === "HEAD" ? undefined : answer.body.string);
    return;
  }
  for await (const chunk of answer.body.asyncIterator) response.write(chunk);
  response.end();
}
