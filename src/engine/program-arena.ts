import type { Kernels } from "./kernels.ts";

const ALIGNMENT = 64;

/** Hands out WASM memory from a position on; what was taken last is given back first. */
export class Arena {
  readonly #kernels: Kernels;
  #top: number;

  constructor(kernels: Kernels, start: number) {
    this.#kernels = kernels;
    this.#top = start;
  }

  /** Position of so many bytes, with a little room behind them. Views of memory die with it. */
  take(bytes: number): number {
    const at = this.#top;
    this.#top = Math.ceil((at + bytes + ALIGNMENT) / ALIGNMENT) * ALIGNMENT;
    this.#kernels.reserve(this.#top);
    return at;
  }

  /** Gives back all that `work` takes, once it is done. */
  scoped<T>(work: () => T): T {
    const top = this.#top;
    try {
      return work();
    } finally {
      this.#top = top;
    }
  }
}
