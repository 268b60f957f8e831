import type { Finding } from "../errors.ts";

/*
 * Why a known `peft_type` cannot be merged, and the way out, by kind. Kinds that can be merged are in `index.ts`.
 */

const NOT_WEIGHTS =
  "acts on the inputs or the cache, not on weights: serve it beside the base, there is nothing to merge";
const INPUT_DEPENDENT =
  "chooses its change from the input at run time, so no fixed weight equals it: serve it beside the base";
const NO_MERGE =
  "lets its change depend on the input, and PEFT has no merge for it either: serve it beside the base";
const DECOMPOSED =
  "decomposes the base's weights again whenever it is loaded, and singular vectors are fixed only up to sign, order " +
  "and rounding, so the file alone does not say what to add: merge it with PEFT's merge_and_unload where it was " +
  "trained, and import the result";
const RANDOM =
  "takes the positions of its values from torch's random generator and a seed, and does not store them: merge it with " +
  "PEFT's merge_and_unload and import the result";

type Reason = readonly [code: string, why: string];

/** The same reason for several kinds. */
const each = (kinds: string, reason: Reason) =>
  kinds.split(" ").map((kind): [string, Reason] => [kind, reason]);

const REFUSED: ReadonlyMap<string, Reason> = new Map([
  ...each("PROMPT_TUNING MULTITASK_PROMPT_TUNING PREFIX_TUNING P_TUNING CPT CARTRIDGE ADAPTION_PROMPT", [
    "NOT_A_WEIGHT_UPDATE",
    NOT_WEIGHTS,
  ]),
  ...each("XLORA POLY", ["NOT_A_WEIGHT_UPDATE", INPUT_DEPENDENT]),
  ...each("LILY SHADOW", ["UNSUPPORTED_KIND", NO_MERGE]),
  ...each("ADAMSS FROD OSF PSOFT", ["NEEDS_DECOMPOSITION", DECOMPOSED]),
  ...each("FOURIERFT WAVEFT UNILORA", ["NEEDS_TORCH_RNG", RANDOM]),
]);

/** The refusal for a `peft_type` other than the ones that are merged. */
export function refuseKind(peftType: string): Finding {
  const refused = REFUSED.get(peftType);
  if (refused) {
    const [code, why] = refused;
    return { code, subject: "peft_type", message: `${peftType} ${why}.` };
  }
  return {
    code: "UNKNOWN_PEFT_TYPE",
    subject: "peft_type",
    message: `adapter_config.json: peft_type "${peftType}" is not a method known here; its arithmetic would be a guess. Check the spelling, or merge with the tool that wrote it.`,
  };
}
