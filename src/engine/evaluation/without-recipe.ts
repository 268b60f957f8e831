import { allTensors, type CheckpointFacts, checkpointDigests } from "../../core/checkpoint.ts";
import { isMergeable, type MergeableDtype } from "../../core/dtype.ts";
import { AppError } from "../../core/errors.ts";
import type { Digest } from "../../core/identity.ts";
import { isAdapterName } from "../../core/parity.ts";
import { digestCheckpoint } from "../digest.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import type { WeightsInput, WeightsOutcome } from "./weights-pass.ts";

/** Levels 0 and 1, with or without a recipe that the reference stands for. */
export type Weighed = Omit<WeightsOutcome, "recipeDigest"> & { readonly recipeDigest: Digest | null };

/**
 * What can be said of a candidate's bytes where no recipe stands for the reference (several adapters, or a weight): that
 * it is a whole checkpoint of numbers. What every tensor of it should be is not defined, so level 1 stays open.
 * @throws NOT_A_CHECKPOINT, UNSUPPORTED_RECIPE without a candidate, BAD_FILE
 */
export async function* weighWithoutRecipe(
  { base, sources, candidate }: Omit<WeightsInput, "plan">,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Weighed> {
  if (candidate === null) {
    throw new AppError(
      "UNSUPPORTED_RECIPE",
      "a recipe merges one adapter with the weight 1: name the checkpoint that several adapters became as the candidate.",
      { field: "candidate" },
    );
  }
  if (candidate.facts.kind !== "checkpoint") {
    throw new AppError(
      "NOT_A_CHECKPOINT",
      `${candidate.folder} is an adapter, not a merged checkpoint: name the folder that base and adapters became.`,
    );
  }
  const read = async function* (located: Located): AsyncGenerator<EngineEvent, CheckpointFacts> {
    return yield* digestCheckpoint(located, options);
  };
  const facts = yield* read(candidate);
  const digests = {
    base: checkpointDigests(yield* read(base)),
    sources: [] as ReturnType<typeof checkpointDigests>[],
  };
  for (const source of sources) digests.sources.push(checkpointDigests(yield* read(source)));
  const tensors = allTensors(facts);
  const left = tensors.map(({ name }) => name).filter(isAdapterName);
  const broken = tensors.filter(({ stats }) => (stats?.nonFinite ?? 0) > 0).map(({ name }) => name);
  const list = (names: readonly string[]) => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
  return {
    checks: [
      {
        level: 0,
        name: "no adapter tensor is left",
        passed: left.length === 0,
        detail: left.length === 0 ? `${tensors.length} tensors of the model` : list(left),
      },
      {
        level: 0,
        name: "every weight is a number",
        passed: broken.length === 0,
        detail: broken.length === 0 ? `${tensors.length} tensors` : `NaN or infinity in ${list(broken)}`,
      },
    ],
    weights: null,
    reasons: [],
    warnings: [
      {
        code: "WEIGHTS_NOT_COMPARED",
        message:
          "no recipe of this release stands for several adapters or a weight, so what each tensor should be is not defined: levels 0 and 1 say only that the candidate is a whole checkpoint of numbers.",
      },
    ],
    dtype: mainDtype(facts),
    recipeDigest: null,
    digests: { ...digests, candidate: checkpointDigests(facts) },
  };
}

function mainDtype(facts: CheckpointFacts): MergeableDtype {
  const bytes = new Map<MergeableDtype, number>();
  for (const { dtype, begin, end } of allTensors(facts)) {
    if (isMergeable(dtype)) bytes.set(dtype, (bytes.get(dtype) ?? 0) + end - begin);
  }
  return [...bytes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "BF16";
}
