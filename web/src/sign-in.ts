import { GraphqlFailure } from "../../src/client/failure.ts";
import type { Viewer } from "./documents.ts";

/** Names of `src/http/identity.ts`. Unlike the session's own cookie, scripts of this page may read this one. */
const CSRF_COOKIE = "graftwork_csrf";
const CSRF_HEADER = "x-csrf-token";

/**
 * The header without which the server takes no change from a browser: other sites can make a browser send its
 * cookies, but cannot read them. Empty when nobody is signed in.
 */
export function csrfHeaders(cookies: string = document.cookie): Record<string, string> {
  for (const part of cookies.split("; ")) {
    const [name, value] = part.split("=");
    if (name === CSRF_COOKIE && value) return { [CSRF_HEADER]: value };
  }
  return {};
}

/**
 * Exchanges a token for a session cookie that scripts cannot read.
 * @throws GraphqlFailure UNAUTHENTICATED for an unknown, expired or revoked token
 */
export async function signIn(token: string): Promise<void> {
  await call("POST", { token });
}

/** Ends the session, on the server too. */
export async function signOut(): Promise<void> {
  await call("DELETE");
}

async function call(method: "POST" | "DELETE", body?: unknown): Promise<void> {
  let response: Response;
  try {
    response = await fetch("/session", {
      method,
      headers: { "content-type": "application/json", ...csrfHeaders() },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (cause) {
    const message = "Check that it is running and that this machine can reach it.";
    throw new GraphqlFailure([{ message }], { code: "UNREACHABLE", cause });
  }
  if (response.ok) return;
  const answer = (await response.json().catch(() => null)) as {
    error?: { code: string; message: string };
  } | null;
  const { code, message } = answer?.error ?? {
    code: `HTTP_${response.status}`,
    message: `The server answered ${response.status} ${response.statusText}.`,
  };
  throw new GraphqlFailure([{ message }], { code });
}

export interface Known {
  /** Null when nobody is signed in. */
  readonly viewer: Viewer | null;
  /** Whether somebody was signed in here until the session ended by itself: expired, revoked, a new admin token. */
  readonly ended: boolean;
}

/** What is known of the session after the server has said who the viewer is. */
export function learn(before: Known | null, viewer: Viewer | null): Known {
  const wasSignedIn = before !== null && (before.viewer !== null || before.ended);
  return { viewer, ended: viewer === null && wasSignedIn };
}
