import { GraphqlFailure } from "../../src/client/failure.ts";

/**
 * The session's CSRF secret. The server hands it out once, with the cookie; unlike the cookie this page may read it,
 * and other sites may not, which is what makes it proof that a change was asked for here. All tabs share it.
 */
const STORED = "graftwork.csrf";

/** The header with which the server accepts changes from a browser; none when nobody is signed in. */
export function csrfHeaders(): Record<string, string> {
  const csrf = window.localStorage.getItem(STORED);
  return csrf === null ? {} : { "x-csrf-token": csrf };
}

/**
 * Exchanges a token for a session cookie that scripts cannot read.
 * @throws GraphqlFailure UNAUTHENTICATED for an unknown, expired or revoked token
 */
export async function signIn(token: string): Promise<void> {
  const answer = (await call("POST", { token })) as { csrfToken: string };
  window.localStorage.setItem(STORED, answer.csrfToken);
}

/** Ends the session, on the server too. */
export async function signOut(): Promise<void> {
  await call("DELETE");
  window.localStorage.removeItem(STORED);
}

async function call(method: "POST" | "DELETE", body?: unknown): Promise<unknown> {
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
  const answer = (await response.json().catch(() => null)) as {
    error?: { code: string; message: string };
  } | null;
  if (response.ok) return answer;
  const { code, message } = answer?.error ?? {
    code: `HTTP_${response.status}`,
    message: `The server answered ${response.status} ${response.statusText}.`,
  };
  throw new GraphqlFailure([{ message }], { code });
}
