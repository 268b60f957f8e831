import type pg from "pg";
import { AppError } from "../core/errors.ts";
import type { Viewer } from "../core/permissions.ts";
import type { Db } from "./db.ts";
import type { JobQueue } from "./queue.ts";

/** What every registry function needs. */
export interface RegistryContext {
  readonly db: Db;
  readonly pool: pg.Pool;
  readonly queue: JobQueue;
  now(): Date;
}

/** A request: somebody asks. A worker has none: what it may do was decided when its job was made. */
export interface ViewerContext extends RegistryContext {
  readonly viewer: Viewer;
}

/** @throws UNAUTHENTICATED unless somebody is signed in; returns their account */
export function requireAccount(viewer: Viewer): string {
  if (viewer.accountId !== null) return viewer.accountId;
  throw new AppError(
    "UNAUTHENTICATED",
    "Sign in first: send `Authorization: Bearer <token>`. The first start of the server printed the admin token.",
  );
}

/** Unknown and hidden are the same answer, or a stranger could learn what exists by asking. */
export function notFound(what: string, field?: string): AppError {
  const extras = field === undefined ? {} : { field };
  return new AppError("NOT_FOUND", `${what} does not exist, or you may not see it.`, extras);
}
