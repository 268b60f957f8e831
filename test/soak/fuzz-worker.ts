import { parentPort, workerData } from "node:worker_threads";
import { type CaseOutcome, loadCorpus, runCase } from "./fuzz-case.ts";

/** What a worker is started with. */
export interface FuzzSetup {
  readonly seed: number;
  readonly scratch: string;
  readonly maxMerges: number;
}

/** Told at the end of each case; `failure` where something other than an AppError was thrown. */
export interface CaseEnd {
  readonly index: number;
  readonly outcome: CaseOutcome | null;
  readonly failure: string | null;
}

const { seed, scratch, maxMerges } = workerData as FuzzSetup;
const corpus = await loadCorpus();
const merged = new Set<string>();
const port = parentPort!;
port.on("message", async (index: number) => {
  const end = await runCase({ corpus, seed, index, scratch, merged, maxMerges }).then(
    (outcome): CaseEnd => ({ index, outcome, failure: null }),
    (error): CaseEnd => ({
      index,
      outcome: null,
      failure: error instanceof Error ? (error.stack ?? error.message) : String(error),
    }),
  );
  port.postMessage(end);
});
port.postMessage("ready");
