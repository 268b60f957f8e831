import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";

/*
 * Loaded into the server before its own code (`--import`). SIGUSR2 begins a measurement of the event loop's delay, and
 * the next one ends it and writes it to the file that BENCH_LOOP_DELAY names.
 */
const RESOLUTION_MS = 1;
let histogram: ReturnType<typeof monitorEventLoopDelay> | null = null;

// Threads load it too, but signals go to the process.
if (isMainThread) process.on("SIGUSR2", toggle);

function toggle(): void {
  if (histogram === null) {
    histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    histogram.enable();
    return;
  }
  histogram.disable();
  // It records the whole time between two looks, the pause that was asked for included.
  const ms = (ns: number) => Math.max(0, ns / 1e6 - RESOLUTION_MS);
  const { max, mean } = histogram;
  const result = {
    max_ms: ms(max),
    p99_ms: ms(histogram.percentile(99)),
    mean_ms: ms(mean),
    looks: histogram.count,
  };
  writeFileSync(process.env.BENCH_LOOP_DELAY!, JSON.stringify(result));
  histogram = null;
}
