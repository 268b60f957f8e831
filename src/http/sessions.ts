import { AppError } from "../core/errors.ts";
import { createSession, deleteSession } from "../registry/accounts.ts";
import type { RegistryContext } from "../registry/context.ts";
import { type Exchange, methodNotAllowed, readJson, sendJson } from "./answer.ts";
import { CSRF_COOKIE, CSRF_HEADER, identify, isSameOrigin, readCookie, SESSION_COOKIE } from "./identity.ts";

/**
 * `/session`: POST `{ "token" }` exchanges a token for a cookie, GET says who is signed in, DELETE signs out. The
 * console never keeps the token.
 */
export async function handleSession(registry: RegistryContext, exchange: Exchange): Promise<void> {
  const { request } = exchange;
  if (!isSameOrigin(request.headers)) {
    throw new AppError("ORIGIN", "Sessions are for the console of this server; elsewhere use a token.");
  }
  if (request.method === "POST") return await signIn(registry, exchange);
  if (request.method === "GET") return await whoAmI(registry, exchange);
  if (request.method === "DELETE") return await signOut(registry, exchange);
  throw methodNotAllowed(exchange, "GET, POST, DELETE");
}

async function signIn(registry: RegistryContext, exchange: Exchange): Promise<void> {
  const body = (await readJson(exchange.request)) as { token?: unknown } | null;
  if (typeof body?.token !== "string" || body.token === "") {
    throw new AppError("BAD_INPUT", 'Send {"token": "…"} with an API token.', { field: "token" });
  }
  const { secret, csrf, expiresAt } = await createSession(registry, body.token.trim());
  const seconds = Math.max(1, Math.floor((expiresAt.getTime() - registry.now().getTime()) / 1000));
  setCookies(exchange, [
    `${SESSION_COOKIE}=${secret}; HttpOnly; Max-Age=${seconds}`,
    `${CSRF_COOKIE}=${csrf}; Max-Age=${seconds}`,
  ]);
  sendJson(exchange, 201, { csrfToken: csrf, expiresAt: expiresAt.toISOString() });
}

async function whoAmI(registry: RegistryContext, exchange: Exchange): Promise<void> {
  const { viewer, expiresAt } = await identify(registry, exchange.request.headers);
  const account = viewer.accountId
    ? await registry.db.account.findUnique({
        where: { id: viewer.accountId },
        select: { name: true, isAdmin: true },
      })
    : null;
  sendJson(exchange, 200, {
    signedIn: account !== null,
    account,
    expiresAt: expiresAt?.toISOString() ?? null,
  });
}

async function signOut(registry: RegistryContext, exchange: Exchange): Promise<void> {
  const { headers } = exchange.request;
  const identity = await identify(registry, headers);
  if (identity.by === "cookie" && !identity.mayChange) throw csrfMissing();
  const secret = readCookie(headers.cookie, SESSION_COOKIE);
  if (secret !== null) await deleteSession(registry, secret);
  setCookies(exchange, [`${SESSION_COOKIE}=; HttpOnly; Max-Age=0`, `${CSRF_COOKIE}=; Max-Age=0`]);
  exchange.response.writeHead(204).end();
}

export function csrfMissing(): AppError {
  return new AppError(
    "CSRF",
    `Changing something with a session cookie needs the header ${CSRF_HEADER} with the value of the cookie ${CSRF_COOKIE}.`,
  );
}

function setCookies({ request, response }: Exchange, cookies: readonly string[]): void {
  // Only a proxy in front speaks TLS; where it says so, the cookie must not travel without.
  const secure = request.headers["x-forwarded-proto"] === "https" ? "; Secure" : "";
  response.setHeader(
    "set-cookie",
    cookies.map((cookie) => `${cookie}; Path=/; SameSite=Strict${secure}`),
  );
}
