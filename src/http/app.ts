import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import type { ApolloServer } from "@apollo/server";
import { AppError } from "../core/errors.ts";
import { DATABASE_AWAY, type LogFault } from "../graphql/errors.ts";
import type { RegistryContext } from "../registry/context.ts";
import { isConnectionError } from "../registry/db.ts";
import { type Exchange, sendFailure, sendJson } from "./answer.ts";
import { createApollo, handleGraphql, type RequestContext } from "./graphql.ts";
import { setSecurityHeaders } from "./headers.ts";
import { handleReport, reportPath } from "./reports.ts";
import { handleSession } from "./sessions.ts";
import { handleStatic } from "./static.ts";
import { serveSubscriptions } from "./subscriptions.ts";

export interface HttpOptions {
  readonly registry: RegistryContext;
  readonly settings: {
    /** 0: any free port. */
    readonly port: number;
    readonly host: string;
    readonly introspection: boolean;
  };
  readonly log: { error(message: string, fields?: Readonly<Record<string, unknown>>): void };
  /** The built console; default `web/dist`. */
  readonly webRoot?: string;
  /** How often open sockets are asked again who they are; default a minute. */
  readonly recheckMs?: number;
}

export interface HttpServer {
  readonly server: Server;
  /** Starts answering and returns the address, `http://127.0.0.1:4000`. Throws PORT_IN_USE. */
  listen(): Promise<string>;
  /** Takes no new requests, ends subscriptions, lets running requests end. */
  close(): Promise<void>;
}

const WEB_ROOT = fileURLToPath(new URL("../../web/dist", import.meta.url));
const RECHECK_MS = 60_000;
const REQUEST_ID = /^[\w.-]{8,64}$/;

/** API, sessions and console on one port. */
export async function createHttpServer(options: HttpOptions): Promise<HttpServer> {
  const { registry, settings, log } = options;
  const logFault: LogFault = ({ requestId, error, path }) =>
    log.error("a request failed", { requestId, path, error });
  const apollo = createApollo({ introspection: settings.introspection, logFault });
  await apollo.start();
  const routes = { apollo, registry, webRoot: options.webRoot ?? WEB_ROOT };
  const server = createServer((request, response) => {
    // Otherwise a page that asks twice a second would keep its connection, and with it the server, alive.
    if (!server.listening) response.setHeader("connection", "close");
    void answer(routes, { request, response, logFault });
  });
  // Slow senders hold a connection no longer than this; the default of five minutes invites them.
  server.requestTimeout = 60_000;
  server.headersTimeout = 20_000;
  const subscriptions = serveSubscriptions(server, {
    registry,
    introspection: settings.introspection,
    logFault,
    newRequestId: randomUUID,
    recheckMs: options.recheckMs ?? RECHECK_MS,
  });
  return {
    server,
    listen: () => listen(server, settings),
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await subscriptions.close();
      server.closeIdleConnections();
      const forced = setTimeout(() => server.closeAllConnections(), 5000);
      await closed;
      clearTimeout(forced);
      await apollo.stop();
    },
  };
}

/** `createHttpServer`, and answering. */
export async function startHttp(options: HttpOptions): Promise<{ url: string; close(): Promise<void> }> {
  const http = await createHttpServer(options);
  try {
    return { url: await http.listen(), close: http.close };
  } catch (error) {
    await http.close();
    throw error;
  }
}

interface Routes {
  readonly apollo: ApolloServer<RequestContext>;
  readonly registry: RegistryContext;
  readonly webRoot: string;
}

interface Incoming {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly logFault: LogFault;
}

async function answer(routes: Routes, { request, response, logFault }: Incoming): Promise<void> {
  const asked = request.headers["x-request-id"];
  const requestId = typeof asked === "string" && REQUEST_ID.test(asked) ? asked : randomUUID();
  setSecurityHeaders(response, requestId);
  // Joined and not resolved: `//host/x` is a path here.
  const path = request.url ?? "/";
  const url = path.startsWith("/") ? URL.parse(`http://localhost${path}`) : null;
  const exchange: Exchange = { request, response, requestId, url: url ?? new URL("http://localhost/") };
  try {
    if (url === null) throw new AppError("BAD_REQUEST", "The address is not a valid URL path.");
    await route(routes, exchange);
  } catch (error) {
    // A reader that left is nobody's fault.
    if (request.destroyed && response.destroyed) return;
    const known = isConnectionError(error) ? notReady() : error;
    if (!sendFailure(exchange, known)) logFault({ requestId, error, path: exchange.url.pathname });
  }
}

async function route({ apollo, registry, webRoot }: Routes, exchange: Exchange): Promise<void> {
  const report = reportPath(exchange.url.pathname);
  if (report) return await handleReport(registry, exchange, report);
  switch (exchange.url.pathname) {
    case "/graphql":
      return await handleGraphql(apollo, registry, exchange);
    case "/session":
      return await handleSession(registry, exchange);
    case "/healthz":
      return sendJson(exchange, 200, { status: "ok" });
    case "/readyz":
      return await handleReady(registry, exchange);
    default:
      return await handleStatic(webRoot, exchange);
  }
}

/** Alive is not ready: ready means that the database answers. */
async function handleReady({ pool }: RegistryContext, exchange: Exchange): Promise<void> {
  const late = new Promise<never>((_, reject) => setTimeout(reject, 3000, new Error("late")).unref());
  try {
    await Promise.race([pool.query("select 1"), late]);
  } catch {
    throw notReady();
  }
  sendJson(exchange, 200, { status: "ready" });
}

function notReady(): AppError {
  return new AppError("NOT_READY", DATABASE_AWAY);
}

function listen(server: Server, { host, port }: HttpOptions["settings"]): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") return reject(error);
      reject(
        new AppError(
          "PORT_IN_USE",
          `Port ${port} of ${host} is taken. Stop what listens there, or set PORT to another.`,
        ),
      );
    });
    server.listen(port, host, () => {
      const { address, port: real, family } = server.address() as AddressInfo;
      const shown = address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "localhost" : address;
      resolve(`http://${family === "IPv6" && shown.includes(":") ? `[${shown}]` : shown}:${real}`);
    });
  });
}
