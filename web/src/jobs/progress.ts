/** What can be read from a job's progress over time. Pure. */

export interface Sample {
  /** Milliseconds. */
  readonly at: number;
  readonly stage: string | null;
  readonly done: number;
  readonly total: number;
}

const WINDOW_MS = 8000;

/** Appends a sample and forgets what the rate does not need: older than the window, or of another stage. */
export function addSample(samples: readonly Sample[], next: Sample): readonly Sample[] {
  const kept = samples.filter(
    (sample) => sample.stage === next.stage && sample.done <= next.done && next.at - sample.at <= WINDOW_MS,
  );
  return [...kept, next];
}

/** Units a second over the window; null until two samples show movement. */
export function rateOf(samples: readonly Sample[]): number | null {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || last.at - first.at < 250 || last.done <= first.done) return null;
  return ((last.done - first.done) * 1000) / (last.at - first.at);
}

/** Seconds until the stage is done at the present rate; null when that is unknown. */
export function secondsLeft(samples: readonly Sample[]): number | null {
  const rate = rateOf(samples);
  const last = samples.at(-1);
  if (rate === null || !last || last.total <= 0) return null;
  return Math.max(0, last.total - last.done) / rate;
}
