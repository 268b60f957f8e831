import { tensorsByName } from "../../core/checkpoint.ts";
import { combinedPlan } from "../../core/combined-plan.ts";
import { AppError } from "../../core/errors.ts";
import type { EngineEvent, EngineOptions } from "../events.ts";
import type { ReferenceSide } from "./sides.ts";
import { compareCombined, type WeightsInput, type WeightsOutcome } from "./weights-pass.ts";

/** What levels 0 and 1 found, with or without a recipe that the reference stands for. */
export type Weighed = WeightsOutcome;

/**
 * Levels 0 and 1 of a candidate where no recipe stands for the reference: several adapters, or one with a weight. What
 * each tensor is exactly is known, W + Σ weightᵢ·Δᵢ; bytes that a merge would write are not.
 * @throws UNSUPPORTED_RECIPE without a candidate; what `compareCombined` throws
 */
export async function* weighWithoutRecipe(
  input: Omit<WeightsInput, "plan">,
  { combined, plans }: Pick<ReferenceSide, "combined" | "plans">,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Weighed> {
  if (input.candidate === null) {
    throw new AppError(
      "UNSUPPORTED_RECIPE",
      "what merging would write is known for one adapter with the weight 1 only: name the checkpoint that base and adapters became as the candidate (on the command line: --merged DIR).",
      { field: "candidate" },
    );
  }
  const plan = combinedPlan(combined, plans, tensorsByName(input.base.facts.weights));
  return yield* compareCombined({ ...input, plan }, options);
}
