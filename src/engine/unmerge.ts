import { join } from "node:path";
import { checkpointDigests, tensorsByName } from "../core/checkpoint.ts";
import { MAX_ULP } from "../core/devices.ts";
import { byteLength, isMergeable } from "../core/dtype.ts";
import type { Digest } from "../core/identity.ts";
import { requireRunnable } from "../core/plan.ts";
import { withResults } from "./digest.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { TensorResult } from "./pool.ts";
import { runTasks } from "./run-tasks.ts";
import { baseResults, type TaskInputs, tensorTasks } from "./tasks.ts";

export interface UnmergeInput extends TaskInputs {
  /** A merged folder of any tool's making. */
  readonly merged: Located;
}

/** One tensor that base and adapter do not explain. */
export interface Residue {
  readonly tensor: string;
  readonly what: "differs" | "missing" | "unexpected" | "shape";
  /** Elements that differ from base + adapter, of how many; null where they cannot be compared. */
  readonly differing: number | null;
  readonly elements: number | null;
  /** Largest difference, in units in the last place at the larger of |W| and |W′|. */
  readonly maxUlp: number | null;
  /** How much of the adapter's change is in it: 0 none, 1 all, 2 twice; null where it cannot be said. */
  readonly projection: number | null;
  readonly meaning: string;
}

export interface UnmergeResult {
  /** `EXPLAINED`: merged − adapter is the base, within rounding. */
  readonly verdict: "EXPLAINED" | "DIFFERENT";
  /** Tensors equal to base + adapter bit for bit, and those within one unit in the last place of it. */
  readonly identical: number;
  readonly withinRounding: number;
  readonly residues: readonly Residue[];
  /** The base that is left when the adapter is taken out: restored by reference, there is nothing to compute. */
  readonly base: { readonly folder: string; readonly version: Digest; readonly weights: Digest };
}

/**
 * Shows that what a merged checkpoint adds to its base is this adapter, or names what is not. The base is restored by
 * reference: subtracting a change from rounded weights would not give its bytes back.
 * @throws the plan's refusals, BAD_FILE
 */
export async function* runUnmerge(
  input: UnmergeInput,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, UnmergeResult> {
  requireRunnable(input.plan);
  const { merged, plan, base } = input;
  const stored = tensorsByName(merged.facts.weights);
  const names = new Set(plan.steps.map((step) => step.tensor));
  const residues: Residue[] = [];
  const tasks = tensorTasks(input).map((task) => {
    const tensor = stored.get(task.name);
    if (!tensor || !names.has(task.name)) return task;
    if (tensor.dtype !== task.dtype || tensor.shape.join() !== task.shape.join()) {
      const meaning = `it is ${tensor.dtype} [${tensor.shape}], and ${task.dtype} [${task.shape}] was expected`;
      residues.push(residue(task.name, "shape", meaning));
      return task;
    }
    const range = {
      path: join(merged.folder, tensor.file),
      offset: tensor.begin,
      bytes: tensor.end - tensor.begin,
    };
    const near =
      task.program && isMergeable(task.dtype) && range.bytes === byteLength(task.dtype, task.shape);
    return { ...task, compare: range, ...(near && { near: range }) };
  });
  yield { type: "stage", stage: "verify", message: `comparing ${names.size} tensors with base + adapter` };
  const results = yield* runTasks({ stage: "verify", tasks }, options);
  let identical = 0;
  let withinRounding = 0;
  for (const name of names) {
    const found = explain(name, results.get(name)!, stored.has(name));
    if (found === "identical") identical++;
    else if (found === "rounding") withinRounding++;
    else if (!residues.some(({ tensor }) => tensor === name)) residues.push(found);
  }
  for (const name of stored.keys()) {
    if (!names.has(name)) residues.push(residue(name, "unexpected", "base + adapter has no such tensor"));
  }
  const read = baseResults(input, results);
  const digests = checkpointDigests(
    withResults(base.facts, ({ name }) => {
      const { inputDigest, inputStats } = read.get(name)!;
      return { digest: inputDigest!, stats: inputStats };
    }),
  );
  return {
    verdict: residues.length === 0 ? "EXPLAINED" : "DIFFERENT",
    identical,
    withinRounding,
    residues,
    base: { folder: base.folder, ...digests },
  };
}

function explain(name: string, result: TensorResult, isStored: boolean): Residue | "identical" | "rounding" {
  if (!isStored) return residue(name, "missing", "the merged checkpoint lacks it");
  if (result.compareDigest === result.outputDigest) return "identical";
  const { near } = result;
  if (!near) return residue(name, "differs", "the adapter does not touch it, and it is not the base's");
  if (near.maxUlp <= MAX_ULP) return "rounding";
  const { differing, elements, maxUlp, projection } = near;
  return {
    tensor: name,
    what: "differs",
    differing,
    elements,
    maxUlp,
    projection,
    meaning: meaningOf(projection),
  };
}

function residue(tensor: string, what: Residue["what"], meaning: string): Residue {
  return { tensor, what, differing: null, elements: null, maxUlp: null, projection: null, meaning };
}

/** How far from a whole number a projection may be and still be read as one: storage rounds the change. */
const TOLERANCE = 0.1;

function meaningOf(projection: number | null): string {
  if (projection === null || !Number.isFinite(projection)) return "it is not what base + adapter gives";
  const near = (value: number) => Math.abs(projection - value) <= TOLERANCE;
  if (near(0)) return "the adapter's change is not in it";
  if (near(1)) return "the adapter's change is in it, and something else besides";
  if (near(2)) return "the adapter's change is in it twice";
  if (near(-1)) return "the adapter's change was taken away instead of added";
  return `the adapter's change is in it ${projection.toPrecision(3)} times: another alpha, rank or scale`;
}
