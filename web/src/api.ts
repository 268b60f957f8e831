import type { Document } from "../../src/client/document.ts";
import { GraphqlFailure } from "../../src/client/failure.ts";
import { createClient } from "../../src/client/index.ts";
import { csrfHeaders } from "./sign-in.ts";

/** The one client of the console: the server that sent the page, with the browser's session cookie. */
export const client = createClient({ url: window.location.origin, headers: csrfHeaders });

/** @throws GraphqlFailure when there is no whole answer; the signal's reason when it aborts */
export function ask<R, V>(document: Document<R, V>, variables: V, signal?: AbortSignal): Promise<R> {
  return client.request(document, variables, signal ? { signal } : {});
}

/** A fresh idempotency key. `crypto.randomUUID` is missing on plain http from another machine. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

export interface Problem {
  readonly title: string;
  readonly detail: string;
  readonly code: string | null;
}

/** What to say about a request without an answer. */
export function describeProblem(error: unknown): Problem {
  if (!(error instanceof GraphqlFailure)) {
    return { title: "Something went wrong", detail: String(error), code: null };
  }
  const { code, message, requestId } = error;
  if (code === "UNREACHABLE") return { title: "The server does not answer", detail: message, code: null };
  if (code === "UNAUTHENTICATED") {
    return { title: "You are not signed in, or no longer", detail: message, code: null };
  }
  const trace = requestId ? ` The server's log knows this as request ${requestId}.` : "";
  return { title: "The server could not answer", detail: message + trace, code };
}
