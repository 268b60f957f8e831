import { AppError } from "../core/errors.ts";
import { type MemoryEstimate, memoryOf } from "../core/plan-memory.ts";
import type { EngineOptions } from "../engine/events.ts";

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

/** Memory that the merges and evaluations of one worker share: each takes what is estimated of it, in the order in which they ask. */
export class MemoryBudget {
  /** Bytes. */
  readonly total: number;
  #free: number;
  readonly #waiting: Waiting[] = [];

  constructor(total: number) {
    this.total = total;
    this.#free = total;
  }

  /** Whether so many bytes would have to be waited for. */
  isShort(bytes: number): boolean {
    return this.#waiting.length > 0 || bytes > this.#free;
  }

  /**
   * Waits until so many bytes are free, and takes them. Whoever asked first is served first: a large merge must not
   * wait for ever while small ones pass it.
   * @returns gives them back
   * @throws the signal's reason
   */
  async take(bytes: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const giveUp = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        reject(signal.reason);
        this.#serve();
      };
      const entry: Waiting = {
        bytes,
        start: () => {
          signal.removeEventListener("abort", giveUp);
          resolve();
        },
      };
      signal.addEventListener("abort", giveUp, { once: true });
      this.#waiting.push(entry);
      this.#serve();
    });
    return () => {
      this.#free += bytes;
      this.#serve();
    };
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next && next.bytes <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.start();
    }
  }
}

interface MemoryUse {
  readonly signal: AbortSignal;
  readonly engine: EngineOptions;
  readonly memory: MemoryBudget;
  /** Told why the work does not begin yet. */
  readonly waiting: (message: string) => Promise<void>;
}

const MB = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

/**
 * Runs a merge or an evaluation within the worker's memory: with fewer threads where all of them would not fit, and not before others
 * have given back what it needs.
 * @throws NOT_ENOUGH_MEMORY where not even one thread fits
 */
export async function withinMemory<T>(
  { signal, engine, memory, waiting }: MemoryUse,
  estimate: MemoryEstimate,
  work: (engine: EngineOptions) => Promise<T>,
): Promise<T> {
  const fitting = Math.floor((memory.total - estimate.process) / estimate.thread);
  if (fitting < 1) {
    throw new AppError(
      "NOT_ENOUGH_MEMORY",
      `this takes ${MB(memoryOf(estimate, 1))} of memory on one thread, and all merges and evaluations of this worker may take ${MB(memory.total)}. Raise GRAFTWORK_MEMORY on a machine that has more.`,
      { details: { needed: memoryOf(estimate, 1), allowed: memory.total } },
    );
  }
  const threads = Math.min(engine.threads, fitting);
  const bytes = memoryOf(estimate, threads);
  const short = memory.isShort(bytes);
  // Its place first: telling takes a while, and others may ask meanwhile.
  const place = memory.take(bytes, signal);
  if (short)
    await told(place, () => waiting(`waiting for others to give back memory: this takes ${MB(bytes)}`));
  const giveBack = await place;
  try {
    return await work({ ...engine, threads });
  } finally {
    giveBack();
  }
}

/** Tells that a place is waited for; where that fails, the place is left. */
async function told(place: Promise<() => void>, tell: () => Promise<void>): Promise<void> {
  try {
    await tell();
  } catch (error) {
    place.then(
      (giveBack) => giveBack(),
      () => {},
    );
    throw error;
  }
}
