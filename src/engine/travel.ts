import { AppError } from "../core/errors.ts";
import type { WorkerError } from "./pool.ts";

/** An error as plain data: between threads and processes errors lose their class and their fields. */
export function packError(error: unknown): WorkerError {
  if (error instanceof AppError) {
    const { code, message, field, details, reasons } = error;
    return { kind: "expected", code, message, field, details, reasons };
  }
  return { kind: "bug", text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** The error again. `where`: what failed, for a bug's message. */
export function unpackError(error: WorkerError, where: string): Error {
  if (error.kind === "bug") return new Error(`${where} failed: ${error.text}`);
  const { code, message, field, details, reasons } = error;
  return new AppError(code, message, {
    ...(field === undefined ? {} : { field }),
    ...(details === undefined ? {} : { details }),
    ...(reasons === undefined ? {} : { reasons }),
  });
}
