import { base, call, div, norm, reshape } from "../expr.ts";
import { knownFields, readCount, readFlag } from "./config.ts";
import {
  dimOf,
  type ModuleKind,
  parseModules,
  partOf,
  rankProblem,
  shapeProblem,
  weightTarget,
} from "./frame.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";

/**
 * HRA (Yuan 2024): `W' = W·(I-2u₁u₁ᵀ)·…·(I-2u_r·u_rᵀ)`, a chain of reflections; `hra_u` (in×r) has their directions, whose
 * lengths do not count, or which are made orthogonal first (`apply_GS`). PEFT multiplies the chain into one in×in
 * matrix; here every row is reflected r times, see `reflect` in functions-reflection.ts.
 */
export function parseHra(input: AdapterInput): ParsedAdapter {
  return parseModules(input, HRA);
}

const HRA: ModuleKind = {
  name: "HRA",
  part: /hra_u/,
  fields: { known: knownFields("r apply_GS bias init_weights") },
  layers: ["linear", "convolution"],
  read(config, { report }) {
    const stated = readCount(config, { field: "r", fallback: 8, least: 1 }, report);
    const orthogonal = readFlag(config, { field: "apply_GS", fallback: false }, report);
    return (adapted) => {
      const { weight, out } = adapted;
      const rank = dimOf(adapted, "hra_u", 1);
      const problem =
        shapeProblem(adapted, { hra_u: [adapted.in, null] }) ?? rankProblem(adapted, rank, stated);
      if (problem) return problem;
      const stored = partOf(adapted, "hra_u");
      const directions = orthogonal ? call("orthonormal", [stored]) : div(stored, norm(stored, 0, "double"));
      const rows =
        weight.shape.length === 2 ? base(weight.name) : reshape(base(weight.name), [out, adapted.in]);
      const expr = reshape(call("reflect", [rows, directions]), weight.shape);
      return [weightTarget(adapted, { change: "HRA", expr, rank })];
    };
  },
};
