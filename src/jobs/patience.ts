import { isConnectionError } from "../registry/db.ts";

/** A Postgres that is started again, or a standby that takes over, is back by then. */
const LIMIT_MS = 120_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

/**
 * Does work again while the database is away, for up to two minutes: hours of arithmetic must not be lost to a
 * restart of Postgres. The work is a read, or one transaction that may be done twice (every write of a job is fenced).
 */
export async function withPatience<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const deadline = performance.now() + LIMIT_MS;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!isConnectionError(error) || performance.now() > deadline) throw error;
    }
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
