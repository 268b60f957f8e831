import { describe, expect, it } from "vitest";
import type { LocatedTensor } from "../../src/core/checkpoint.ts";
import type { Dtype } from "../../src/core/dtype.ts";
import { base } from "../../src/core/expr.ts";
import { planFloat8 } from "../../src/core/plan-float8.ts";

const tensor = (name: string, dtype: Dtype, shape: readonly number[]): [string, LocatedTensor] => [
  name,
  { name, dtype, shape, begin: 0, end: 0, file: "model.safetensors" },
];
const BASE = new Map([
  tensor("q.weight", "F8_E4M3", [4, 6]),
  tensor("q.weight_scale", "F32", [4, 1]),
  tensor("head.weight", "BF16", [4, 6]),
]);
const target = (name: string) => ({
  tensor: name,
  module: name,
  change: "LoRA",
  rank: 1,
  alpha: 1,
  scale: 1,
  expr: base(name),
});
const plan = (name: string) => planFloat8([target(name)], BASE, { config: {}, dtype: null });

describe("a merge into a base in 8-bit floats", () => {
  it("says that changed weights are rounded to 8 bits again, and gives them new scales", () => {
    const { targets, warnings } = plan("q.weight");
    expect(targets.map(({ tensor: name }) => name)).toEqual(["q.weight", "q.weight_scale"]);
    expect(warnings.map(({ code }) => code)).toEqual(["REQUANTISED"]);
  });

  it("says nothing where what changes is stored in another type", () => {
    expect(plan("head.weight")).toMatchObject({ targets: [target("head.weight")], warnings: [] });
  });
});
