import type { IncomingHttpHeaders } from "node:http";
import { AppError } from "../core/errors.ts";
import { ANONYMOUS, type Viewer } from "../core/permissions.ts";
import {
  type AuthenticatedSession,
  authenticateSession,
  authenticateToken,
  checkCsrf,
} from "../registry/accounts.ts";
import type { RegistryContext } from "../registry/context.ts";

export const SESSION_COOKIE = "graftwork_session";
/** Readable by the console, which sends it back as a header: a page of another origin cannot. */
export const CSRF_COOKIE = "graftwork_csrf";
export const CSRF_HEADER = "x-csrf-token";

export interface Identity {
  readonly viewer: Viewer;
  /** How the request said who it is. */
  readonly by: "nobody" | "token" | "cookie";
  /** When that ends by itself. */
  readonly expiresAt: Date | null;
  /** Whether it may change something: cookies travel by themselves, so they need the CSRF header beside. */
  readonly mayChange: boolean;
  readonly session: AuthenticatedSession | null;
}

export const NOBODY: Identity = {
  viewer: ANONYMOUS,
  by: "nobody",
  expiresAt: null,
  mayChange: true,
  session: null,
};

/**
 * Who sent a request. A bearer token outweighs a cookie. An expired cookie is nobody, so that a console left open
 * still loads; a wrong token is an error, because somebody meant it.
 * @throws UNAUTHENTICATED
 */
export async function identify(registry: RegistryContext, headers: IncomingHttpHeaders): Promise<Identity> {
  const token = bearerToken(headers.authorization);
  if (token !== null) return await identifyToken(registry, token);
  const secret = readCookie(headers.cookie, SESSION_COOKIE);
  const session = secret === null ? null : await authenticateSession(registry, secret);
  if (!session) return NOBODY;
  const csrf = headers[CSRF_HEADER];
  const mayChange = checkCsrf(session, typeof csrf === "string" ? csrf : undefined);
  return { viewer: session.viewer, by: "cookie", expiresAt: session.expiresAt, mayChange, session };
}

/** @throws UNAUTHENTICATED for a token that is unknown, expired or revoked */
export async function identifyToken(registry: RegistryContext, token: string): Promise<Identity> {
  const found = await authenticateToken(registry, token);
  if (found) {
    const { viewer, expiresAt } = found;
    return { viewer, by: "token", expiresAt, mayChange: true, session: null };
  }
  throw new AppError(
    "UNAUTHENTICATED",
    "This token is unknown, expired or revoked. `npm start -- --new-admin-token` makes a new one.",
  );
}

function bearerToken(header: string | undefined): string | null {
  if (header === undefined) return null;
  const [, token] = /^Bearer +(\S+) *$/i.exec(header) ?? [];
  if (token !== undefined) return token;
  throw new AppError("UNAUTHENTICATED", "The Authorization header must be `Bearer <token>`.");
}

export function readCookie(header: string | undefined, name: string): string | null {
  for (const part of header?.split(";") ?? []) {
    const cut = part.indexOf("=");
    if (cut > 0 && part.slice(0, cut).trim() === name) return part.slice(cut + 1).trim() || null;
  }
  return null;
}

/** Whether a browser sent this from a page of this server; programs send no Origin. */
export function isSameOrigin({ origin, host }: IncomingHttpHeaders): boolean {
  return origin === undefined || URL.parse(origin)?.host === host;
}
