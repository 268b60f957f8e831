import { add, base, reshape } from "../expr.ts";
import { knownFields } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";
import { shapeMismatch } from "./part-shapes.ts";
import { findTensor } from "./parts.ts";

/** BEFT (PEFT 0.19): the bias of each module plus `beft_bias` (1×out); weights stay as they are. */
const BEFT: LinearKind<null> = {
  change: "BEFT",
  fields: { known: knownFields("init_weights") },
  parts: { beft_bias: { shape: [1, "out"] } },
  settings: () => null,
  changes({ input, name, parts, dims, part }) {
    const bias = findTensor(input, name, "bias");
    if (!bias) {
      const tensor = parts.get("beft_bias")!.name;
      return {
        code: "NO_BASE_BIAS",
        subject: tensor,
        message: `adapter tensor "${tensor}" changes the bias of ${name}, which has none in the base: PEFT cannot merge it either. Name the base it was trained on.`,
      };
    }
    if (bias.shape.length !== 1 || bias.shape[0] !== dims.out) {
      return shapeMismatch(name, `its bias has the shape [${bias.shape}], but its weight ${dims.out} rows`);
    }
    return [{ tensor: bias.name, expr: add(base(bias.name), reshape(part("beft_bias"), [dims.out!])) }];
  },
};

export const parseBeft = (input: AdapterInput): ParsedAdapter => parseLinear(input, BEFT);
