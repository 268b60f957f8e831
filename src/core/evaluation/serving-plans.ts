import type { CheckpointFacts } from "../checkpoint.ts";
import { type Finding, refusal } from "../errors.ts";
import { type MergePlan, planMerge } from "../plan.ts";
import type { MergeChoices } from "../recipe.ts";

/** A checkpoint, or an adapter, and what messages call it. */
export interface ServedModel {
  readonly facts: CheckpointFacts;
  readonly label: string;
}

export interface ServedModels {
  readonly base: ServedModel;
  readonly sources: readonly ServedModel[];
  readonly choices: MergeChoices;
}

/** The merge of each adapter alone, at full weight: sizes, warnings and refusals are what an advice takes of it. */
export function servingPlans({ base, sources, choices }: ServedModels): MergePlan[] {
  return sources.map((source) =>
    planMerge({ base, sources: [source], choices: { ...choices, weights: [1] } }),
  );
}

/** A merge that only a quantised base stands against, with the types of its tensors: what is left to say needs none. */
const QUANTISED = "QUANTISED_BASE";
const OF_QUANTISED = new Set([QUANTISED, "UNSUPPORTED_BASE_DTYPE"]);

/**
 * Refuses adapters that do not belong to their base.
 * @returns the refusal of a quantised base, which leaves nothing to measure but sizes; null where there is none
 * @throws every other refusal of the plans
 */
export function requireServable(plans: readonly MergePlan[]): Finding | null {
  const refusals = plans.flatMap((plan) => plan.refusals);
  if (refusals.length === 0) return null;
  const quantised = refusals.find(({ code }) => code === QUANTISED);
  if (quantised && refusals.every(({ code }) => OF_QUANTISED.has(code))) return quantised;
  throw refusal("this merge is refused", refusals);
}
