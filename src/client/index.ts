import { createClient as createSocket } from "graphql-ws";
import type { Document } from "./document.ts";
import { GraphqlFailure, type TopLevelError } from "./failure.ts";

export interface ClientOptions {
  /** Where the server is, without `/graphql`: `http://127.0.0.1:4000`. */
  readonly url: string;
  /** An API token; in a browser a session cookie takes its place. */
  readonly token?: string;
  /** Sent with every request, asked anew each time: `x-csrf-token` in a browser. */
  readonly headers?: () => Readonly<Record<string, string>>;
  readonly fetch?: typeof globalThis.fetch;
  readonly WebSocket?: typeof globalThis.WebSocket;
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
}

export interface Client {
  /** @throws GraphqlFailure; part of an answer is not an answer */
  request<R, V>(document: Document<R, V>, variables: V, options?: RequestOptions): Promise<R>;
  /** Ends without an error when `signal` aborts. @throws GraphqlFailure; UNREACHABLE when the connection broke */
  subscribe<R, V>(document: Document<R, V>, variables: V, options?: RequestOptions): AsyncGenerator<R, void>;
  /** Drops the socket that subscriptions share. */
  close(): Promise<void>;
}

/** Speaks GraphQL to a Graftwork server, over fetch and graphql-transport-ws; in Node and in a browser. */
export function createClient(options: ClientOptions): Client {
  const endpoint = new URL("/graphql", options.url);
  const socketUrl = new URL(endpoint);
  socketUrl.protocol = endpoint.protocol === "https:" ? "wss:" : "ws:";
  const socket = createSocket({
    url: socketUrl.href,
    webSocketImpl: options.WebSocket ?? globalThis.WebSocket,
    connectionParams: options.token === undefined ? {} : { token: options.token },
    // Whoever follows something knows its cursor; a retry down here would replay without it.
    retryAttempts: 0,
    lazyCloseTimeout: 1000,
    keepAlive: 10_000,
  });
  return {
    request: (document, variables, { signal } = {}) =>
      send({ options, endpoint, document, variables, signal }) as Promise<never>,
    subscribe: (document, variables, { signal } = {}) =>
      iterate(
        socket.iterate({
          query: document.text,
          operationName: document.name,
          variables: variables as Record<string, unknown>,
        }),
        signal,
      ),
    close: async () => {
      await socket.dispose();
    },
  };
}

interface Sending {
  readonly options: ClientOptions;
  readonly endpoint: URL;
  readonly document: Document<unknown, never>;
  readonly variables: unknown;
  readonly signal: AbortSignal | undefined;
}

async function send({ options, endpoint, document, variables, signal }: Sending): Promise<unknown> {
  const ask = options.fetch ?? globalThis.fetch;
  let response: Response;
  try {
    response = await ask(endpoint, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/graphql-response+json, application/json",
        ...(options.token !== undefined && { authorization: `Bearer ${options.token}` }),
        ...options.headers?.(),
      },
      body: JSON.stringify({ query: document.text, operationName: document.name, variables }),
      signal: signal ?? null,
    });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw unreachable(endpoint, cause);
  }
  return readAnswer(response);
}

async function readAnswer(response: Response): Promise<unknown> {
  const body = (await response.json().catch(() => null)) as {
    data?: unknown;
    errors?: readonly TopLevelError[];
    error?: { code: string; message: string };
  } | null;
  if (body?.errors?.length) throw new GraphqlFailure(body.errors);
  if (response.ok && body && "data" in body) return body.data;
  if (body?.error) throw new GraphqlFailure([body.error], { code: body.error.code });
  const message = `The server answered ${response.status} ${response.statusText}.`;
  throw new GraphqlFailure([{ message }], { code: `HTTP_${response.status}` });
}

async function* iterate<R>(
  answers: AsyncIterableIterator<{ data?: unknown; errors?: readonly TopLevelError[] | undefined }>,
  signal: AbortSignal | undefined,
): AsyncGenerator<R, void> {
  const leave = () => void answers.return?.();
  signal?.addEventListener("abort", leave);
  try {
    if (signal?.aborted) return;
    for await (const { data, errors } of answers) {
      if (errors?.length) throw new GraphqlFailure(errors);
      yield data as R;
    }
  } catch (error) {
    if (signal?.aborted) return;
    throw socketFailure(error);
  } finally {
    signal?.removeEventListener("abort", leave);
    leave();
  }
}

/** What graphql-ws throws: a list of GraphQL errors, or the event with which the socket closed. */
function socketFailure(error: unknown): GraphqlFailure {
  if (error instanceof GraphqlFailure) return error;
  if (Array.isArray(error)) return new GraphqlFailure(error as TopLevelError[]);
  const { code, reason } = (error ?? {}) as { code?: unknown; reason?: unknown };
  const message =
    typeof reason === "string" && reason !== "" ? reason : "The connection to the server broke.";
  // 44xx are the server's own words for "not you" and "not like this": trying again would not help.
  const refused = typeof code === "number" && code >= 4400 && code < 4500;
  const known = code === 4401 || code === 4403 ? "UNAUTHENTICATED" : "BAD_REQUEST";
  return new GraphqlFailure([{ message }], { code: refused ? known : "UNREACHABLE", cause: error });
}

function unreachable(endpoint: URL, cause: unknown): GraphqlFailure {
  const message = `No server answers at ${endpoint.origin}. Start it with npm start, or correct the address.`;
  return new GraphqlFailure([{ message }], { code: "UNREACHABLE", cause });
}
