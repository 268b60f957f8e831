import { base, call } from "../expr.ts";
import { knownFields } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";

/**
 * SHiRA (Bhardwaj et al. 2024): `W[row, column] += weight` at the places that `shira_indices` (2×n, rows and columns)
 * names; PEFT's scaling is always 1.
 */
const SHIRA: LinearKind<null> = {
  change: "SHiRA",
  fields: { known: knownFields("r mask_type random_seed fan_in_fan_out init_weights") },
  parts: {
    shira_weight: { shape: ["n"] },
    shira_indices: { shape: [2, "n"], whole: true },
  },
  settings: () => null,
  changes({ weight, dims, part }) {
    const places = { rows: dims.out!, columns: dims.in!, first: 0 };
    return [
      { expr: call("add-at", [base(weight.name), part("shira_weight"), part("shira_indices")], places) },
    ];
  },
};

export const parseShira = (input: AdapterInput): ParsedAdapter => parseLinear(input, SHIRA);
