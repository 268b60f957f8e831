import { base, call, round } from "../expr.ts";
import { fieldFinding, knownFields } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";

/**
 * Super-Tuning (PEFT 0.21): `W.flat[index] += value`, the values rounded to W's type first. With `r` it is the "Supra"
 * hybrid with low-rank factors beside it, which is refused; so is a file that leaves its indices to be chosen again
 * from the base's magnitudes (`save_precomputed_indices` false).
 */
const SUPERTUNING: LinearKind<null> = {
  change: "Super-Tuning",
  fields: {
    known: knownFields("sparsity select_top lora_dropout init_weights save_precomputed_indices"),
    refused: {
      r: [
        "UNSUPPORTED_VARIANT",
        "the Supra hybrid adds low-rank factors, for which no arithmetic is verified; merge it with PEFT and import the result",
      ],
      lora_alpha: [
        "UNSUPPORTED_VARIANT",
        "it belongs to the Supra hybrid, for which no arithmetic is verified; merge it with PEFT and import the result",
      ],
    },
  },
  parts: {
    supertuning_values: { shape: ["n"] },
    supertuning_indices: { shape: ["n"], whole: true },
  },
  settings(config, report) {
    if (config.save_precomputed_indices === false) report(unsaved);
    return null;
  },
  changes({ weight, dims, part }) {
    const places = { rows: dims.out!, columns: dims.in!, first: 0 };
    return [
      {
        expr: call(
          "add-at",
          [base(weight.name), round(part("supertuning_values")), part("supertuning_indices")],
          places,
        ),
      },
    ];
  },
};

const unsaved = fieldFinding(
  "UNSUPPORTED_VARIANT",
  "save_precomputed_indices",
  "save_precomputed_indices is false: the places are not in the file, and PEFT chooses them again by the base's magnitudes, where equal ones have no order; load the adapter with PEFT, set the field to true, and save it again",
);

export const parseSupertuning = (input: AdapterInput): ParsedAdapter => parseLinear(input, SUPERTUNING);
