import type { IncomingMessage, ServerResponse } from "node:http";
import { AppError } from "../core/errors.ts";

/** A request with what every route needs to know of it. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** In the answer's `x-request-id`, in its errors, and in the log. */
  readonly requestId: string;
  readonly url: URL;
}

/** The largest body of a request, in bytes: a GraphQL document with room to spare. */
export const BODY_LIMIT = 512 * 1024;

/** Statuses of the expected failures of routes; the rest are the caller's mistakes. */
const STATUS: Readonly<Record<string, number>> = {
  BAD_TOKEN: 401,
  UNAUTHENTICATED: 401,
  CSRF: 403,
  ORIGIN: 403,
  NOT_FOUND: 404,
  NO_REPORT: 404,
  METHOD_NOT_ALLOWED: 405,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  NOT_READY: 503,
};

export function sendJson({ request, response }: Exchange, status: number, body: unknown): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
  });
  response.end(request.method === "HEAD" ? undefined : text);
}

/** An expected failure as its status and `{ error: { code, message } }`; null for a bug, which the caller logs. */
export function sendFailure(exchange: Exchange, error: unknown): boolean {
  const { response, requestId } = exchange;
  if (response.headersSent) {
    response.destroy();
    return error instanceof AppError;
  }
  if (error instanceof AppError) {
    const { code, message, field } = error;
    if (code === "UNAUTHENTICATED") response.setHeader("www-authenticate", 'Bearer realm="graftwork"');
    // What is left of a body that is too large is not read.
    if (code === "BODY_TOO_LARGE") response.setHeader("connection", "close");
    sendJson(exchange, STATUS[code] ?? 400, { error: { code, message, ...(field && { field }), requestId } });
    return true;
  }
  const message = `Something went wrong on the server. The log has the reason under request ${requestId}.`;
  sendJson(exchange, 500, { error: { code: "INTERNAL", message, requestId } });
  return false;
}

export function methodNotAllowed({ response, request, url }: Exchange, allowed: string): AppError {
  response.setHeader("allow", allowed);
  return new AppError("METHOD_NOT_ALLOWED", `${url.pathname} takes ${allowed}, not ${request.method}.`);
}

/** Reads a JSON body. Throws UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE or BAD_JSON. */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const type = request.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") {
    throw new AppError(
      "UNSUPPORTED_MEDIA_TYPE",
      "Send the body as JSON, with Content-Type: application/json.",
    );
  }
  const text = await readText(request);
  try {
    return JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AppError("BAD_JSON", `The body is not valid JSON: ${why}.`);
  }
}

async function readText(request: IncomingMessage): Promise<string> {
  const tooLarge = () =>
    new AppError(
      "BODY_TOO_LARGE",
      `The body is larger than ${BODY_LIMIT} bytes. Send files by path, not by value.`,
    );
  if (Number(request.headers["content-length"] ?? 0) > BODY_LIMIT) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > BODY_LIMIT) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
