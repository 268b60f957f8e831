import { digestCheckpoint, finish } from "../../src/engine/digest.ts";
import { chunkTokens } from "../../src/engine/evaluation/logits-level.ts";
import { alignSides, floorOf } from "../../src/engine/evaluation/pair.ts";
import { candidateSide, referenceSide } from "../../src/engine/evaluation/sides.ts";
import type { Comparison } from "../../src/engine/forward/compare.ts";
import { runForward } from "../../src/engine/forward/pool.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";

/*
 * Both sides of an evaluation over some tokens, as level 2 runs them, without tokenizer and statistics: what two forward
 * passes of another program do. The candidate is a merged folder, or without one the recipe's result computed on the
 * fly. Prints one JSON document.
 */
const [base, adapter, merged, tokens, vocabulary, floor] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
];

const locate = async (folder: string) => ({
  folder,
  facts: (await readModelFolder(folder, { roots: null })).facts,
});
const threads = navigator.hardwareConcurrency;
const located = await locate(adapter);
const digested = { ...located, facts: await finish(digestCheckpoint(located, { threads })), weight: 1 };
const inputs = { base: await locate(base), sources: [digested], choices: { weights: [1], tokenizer: null } };
const reference = referenceSide(inputs);
const candidate = candidateSide({
  ...inputs,
  candidate: merged === "" ? null : await locate(merged),
  plan: reference.plan,
});
const pair = alignSides([reference, candidate]);
const withFloor = floor === "floor";
const sides = withFloor ? [...pair.sides, floorOf(pair.sides[0]!)] : pair.sides;
const ids = Int32Array.from({ length: Number(tokens) }, (_, i) => (i * 7919) % Number(vocabulary));
const started = performance.now();
const run = runForward(
  {
    type: "compare",
    setup: { model: pair.model, sides, device: "onnx-cpu", threads, cacheBytes: 0 },
    sequences: [{ ids, first: 1, document: 0 }],
    otherSequences: withFloor ? 1 : 0,
    chunkTokens: chunkTokens(pair, sides.length),
  },
  {},
);
const last = await finish(run);
if (last.type !== "compared") throw new Error(`a comparison ended with ${last.type}`);
const { measures }: Comparison = last.comparison;
console.log(
  JSON.stringify({
    wall_s: (performance.now() - started) / 1000,
    // Of the process that computes, and of the one that asked.
    peak_rss_bytes: last.peakBytes + process.resourceUsage().maxRSS * 1024,
    mean_kld: measures.kld.reduce((sum, value) => sum + value, 0) / measures.kld.length,
    runtime: last.runtime,
    threads,
  }),
);
