import type { EngineEvent, Stage } from "../engine/events.ts";
import { bytes } from "./format.ts";

export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Milliseconds between two redraws on a terminal. */
const BAR_INTERVAL = 100;
/** Milliseconds between two lines where there is no terminal: a log file should stay readable. */
const LINE_INTERVAL = 2_000;
const BAR_WIDTH = 24;
/** Stages that count steps; all others count bytes. */
const STEPS: ReadonlySet<Stage> = new Set(["logits", "text", "tasks", "measure"]);

/** Draws the events of long work: one line that is redrawn on a terminal, plain lines elsewhere. */
export class Progress {
  readonly #out: ProgressOutput;
  readonly #now: () => number;
  #stage = "";
  #started = 0;
  #shown = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(out: ProgressOutput, now: () => number = () => performance.now()) {
    this.#out = out;
    this.#now = now;
  }

  show(event: EngineEvent): void {
    if (event.type === "stage") {
      this.clear();
      this.#stage = event.stage;
      this.#started = this.#now();
      this.#shown = this.#out.isTTY ? Number.NEGATIVE_INFINITY : this.#started;
      if (this.#out.isTTY) this.#draw(`${event.stage}: ${event.message}`);
      else this.#out.write(`${event.stage}: ${event.message}\n`);
      return;
    }
    if (event.type !== "progress") return;
    const now = this.#now();
    const finished = event.done >= event.total;
    if (
      now - this.#shown < (this.#out.isTTY ? BAR_INTERVAL : LINE_INTERVAL) &&
      !(finished && this.#out.isTTY)
    ) {
      return;
    }
    this.#shown = now;
    const share = event.total === 0 ? 1 : event.done / event.total;
    const numbers = `${Math.floor(share * 100)} %${STEPS.has(event.stage) ? "" : this.#bytes(event, now)}`;
    if (!this.#out.isTTY) this.#out.write(`${this.#stage}: ${numbers}\n`);
    else {
      const full = Math.round(share * BAR_WIDTH);
      const bar = "█".repeat(full) + "░".repeat(BAR_WIDTH - full);
      this.#draw(`${this.#stage.padEnd(6)} ${bar} ${numbers}`);
    }
  }

  #bytes({ done, total }: { done: number; total: number }, now: number): string {
    const speed = done / Math.max(0.001, (now - this.#started) / 1000);
    return `  ${bytes(done)} of ${bytes(total)}  ${bytes(speed)}/s`;
  }

  /** Removes the drawn line, so that what follows starts on a clean one. */
  clear(): void {
    if (this.#drawn) this.#out.write("\r\x1b[2K");
    this.#drawn = false;
  }

  #draw(text: string): void {
    // A line that wraps could not be redrawn.
    this.#out.write(`\r\x1b[2K${text.slice(0, (this.#out.columns ?? 80) - 1)}`);
    this.#drawn = true;
  }
}
