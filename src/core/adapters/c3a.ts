import { add, base, call, over, round } from "../expr.ts";
import { knownFields } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";
import { shapeMismatch } from "./part-shapes.ts";

/**
 * C3A (Chen et al. 2024): `W + C/in`, where C is made of circulant blocks of size b whose first rows are
 * `c3a_kernel[p, q, :]` (out/b × in/b × b). C is rounded to W's type, and again after the division, which is by the
 * width of the input and not by the size of a block. PEFT makes C by Fourier transforms in float32, whose errors only a
 * base of F32 shows.
 */
const C3A: LinearKind<null> = {
  change: "C3A",
  fields: { known: knownFields("block_size block_size_pattern bias init_weights") },
  parts: { c3a_kernel: { shape: ["down", "across", "b"] } },
  settings: () => null,
  changes({ name, weight, dims, part }) {
    const { down, across, b } = dims as { down: number; across: number; b: number };
    if (down * b !== dims.out || across * b !== dims.in) {
      const blocks = `${down}×${across} blocks of size ${b}`;
      return shapeMismatch(name, `the kernel's ${blocks} do not fill the base's [${weight.shape}]`);
    }
    const blocks = call("circulant", [part("c3a_kernel")], { first: 0, count: dims.out! });
    return [{ expr: add(base(weight.name), round(over(dims.in!, round(blocks)))) }];
  },
};

export const parseC3a = (input: AdapterInput): ParsedAdapter => parseLinear(input, C3A);
