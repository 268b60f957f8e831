import type { Finding } from "../errors.ts";

/** Why a known `peft_type` cannot be merged, by kind. Kinds that can be merged are in `index.ts`. */
const NOT_WEIGHTS =
  "acts on the inputs or the cache, not on weights: serve it beside the base, there is nothing to merge";
const INPUT_DEPENDENT =
  "chooses its change from the input at run time, so no fixed weight equals it: serve it beside the base";
const NOT_MERGED =
  "is a PEFT method that this release does not merge: merge it with PEFT's merge_and_unload and import the result";

const NOT_A_WEIGHT_UPDATE: Readonly<Record<string, string>> = {
  PROMPT_TUNING: NOT_WEIGHTS,
  MULTITASK_PROMPT_TUNING: NOT_WEIGHTS,
  PREFIX_TUNING: NOT_WEIGHTS,
  P_TUNING: NOT_WEIGHTS,
  CPT: NOT_WEIGHTS,
  CARTRIDGE: NOT_WEIGHTS,
  ADAPTION_PROMPT: NOT_WEIGHTS,
  XLORA: INPUT_DEPENDENT,
  POLY: INPUT_DEPENDENT,
};

const UNSUPPORTED_KIND = new Set(
  (
    "ADALORA ADAMSS BEFT BOFT BONE C3A DEFT DELORA FOURIERFT FROD GLORA GRALORA HIRA HRA IA3 LILY LN_TUNING LOHA " +
    "LOKR MISS OFT OSF PEANUT PSOFT PVERA RANDLORA ROAD SHADOW SHIRA SUPERTUNING TINYLORA TRAINABLE_TOKENS UNILORA " +
    "VBLORA VERA WAVEFT"
  ).split(" "),
);

/** The refusal for a `peft_type` other than the ones that are merged. */
export function refuseKind(peftType: string): Finding {
  const notWeights = Object.hasOwn(NOT_A_WEIGHT_UPDATE, peftType) ? NOT_A_WEIGHT_UPDATE[peftType] : undefined;
  if (notWeights) {
    return { code: "NOT_A_WEIGHT_UPDATE", subject: "peft_type", message: `${peftType} ${notWeights}.` };
  }
  if (UNSUPPORTED_KIND.has(peftType)) {
    return { code: "UNSUPPORTED_KIND", subject: "peft_type", message: `${peftType} ${NOT_MERGED}.` };
  }
  return {
    code: "UNKNOWN_PEFT_TYPE",
    subject: "peft_type",
    message: `adapter_config.json: peft_type "${peftType}" is not a method known here; its arithmetic would be a guess. Check the spelling, or merge with the tool that wrote it.`,
  };
}
