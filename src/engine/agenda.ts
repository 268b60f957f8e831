/** What decides when a work is begun. */
export interface AgendaItem {
  readonly size: number;
  /** Lower groups come first. */
  readonly group: number;
  /** Positions of the items that must be done before. */
  readonly after: readonly number[];
}

/** Which work is next: groups in order, the largest of a group first, each one after what it waits for. */
export class Agenda {
  readonly #rank: Uint32Array;
  /** How many that it waits for are not done yet. */
  readonly #missing: Uint32Array;
  /** Positions of works that can start, the next one last. */
  readonly #startable: number[] = [];
  readonly #waiting = new Map<number, number[]>();
  #left: number;

  constructor(items: readonly AgendaItem[]) {
    // Largest first: what is left at the end is small, so the threads finish together.
    const order = items
      .map((_, i) => i)
      .sort((a, b) => items[a]!.group - items[b]!.group || items[b]!.size - items[a]!.size || a - b);
    this.#rank = new Uint32Array(items.length);
    this.#missing = new Uint32Array(items.length);
    for (const [rank, index] of order.entries()) this.#rank[index] = rank;
    this.#left = items.length;
    for (const index of order.reverse()) {
      const { after } = items[index]!;
      this.#missing[index] = after.length;
      if (after.length === 0) this.#startable.push(index);
      for (const other of after) {
        const waiting = this.#waiting.get(other);
        if (waiting) waiting.push(index);
        else this.#waiting.set(other, [index]);
      }
    }
  }

  /** Position of the work to start; null: none is left; `later`: every one that is left waits for a running one. */
  next(): number | "later" | null {
    const index = this.#startable.pop();
    if (index === undefined) return this.#left > 0 ? "later" : null;
    this.#left--;
    return index;
  }

  /** What waited for this one can start, in its place in the order. */
  done(index: number): void {
    for (const freed of this.#waiting.get(index) ?? []) {
      const missing = --this.#missing[freed]!;
      if (missing === 0) this.#startable.splice(this.#placeOf(freed), 0, freed);
    }
    this.#waiting.delete(index);
  }

  #placeOf(index: number): number {
    let low = 0;
    let high = this.#startable.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rank[this.#startable[middle]!]! > this.#rank[index]!) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
