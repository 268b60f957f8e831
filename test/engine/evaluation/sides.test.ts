import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readModelSpec, SUPPORTED_MODEL_TYPES } from "../../../src/core/decoder/read.ts";
import type { Dtype } from "../../../src/core/dtype.ts";
import { evaluate } from "../../../src/core/evaluate.ts";
import { exact } from "../../../src/core/numerics.ts";
import { checkpointSide, recipeSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import {
  CASES,
  EQUAL_CASES,
  lookupOf,
  MERGED_CASES,
  planCase,
  relativeDifference,
} from "../../support/merge-cases.ts";
import { type Forms, openForms } from "../../support/side-forms.ts";

let forms: Forms;
beforeAll(async () => {
  forms = await openForms();
});
afterAll(() => forms.close());

const digestOf = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/** Values of float32 steps, as a share of the largest value. */
const FLOAT32 = 4e-6;

describe("the un-merged side gives, computed by the kernels, what the plan's expressions are in float64", () => {
  it.each(MERGED_CASES)("%s", async (name) => {
    const { base, adapter, plan } = await planCase(name);
    const reference = referenceSide({
      base,
      sources: [{ ...adapter, weight: 1 }],
      choices: { weights: [1], tokenizer: null },
    });
    const lookup = await lookupOf(base, [adapter]);
    const { weights } = reference.side;
    expect(new Set(Object.keys(weights))).toEqual(new Set(plan.steps.map(({ tensor }) => tensor)));
    for (const { tensor, shape, expr, input } of plan.steps) {
      const form = weights[tensor]!;
      expect(reference.shapes.get(tensor)!.shape, tensor).toEqual(shape);
      if (expr === null) {
        const stored = lookup.whole({ op: "base", tensor: input!.tensor });
        expect(form.kind).toBe("stored");
        expect(await forms.value(form), tensor).toEqual(stored.values);
      } else {
        const oracle = evaluate(expr, lookup, exact).values;
        expect(relativeDifference(await forms.value(form), oracle), tensor).toBeLessThan(FLOAT32);
      }
    }
    const { branches, computed, rows, stored } = reference.forms;
    expect(branches + computed + rows + stored).toBe(plan.steps.filter(({ expr }) => expr !== null).length);
    const { model_type: family } = reference.config;
    if ((SUPPORTED_MODEL_TYPES as readonly unknown[]).includes(family))
      expect(readModelSpec(reference.config, reference.shapes).family).toBe(family);
  });
});

describe("a recipe's side gives the bytes that its merge writes, as PEFT wrote them", () => {
  it.each(EQUAL_CASES)("%s", async (name) => {
    const { base, adapter, plan } = await planCase(name);
    const { side, shapes } = recipeSide(plan, base, [adapter]);
    const expected: Record<string, { digest: string; dtype: Dtype; shape: number[] }> = JSON.parse(
      await readFile(join(CASES, name, "expected.json"), "utf8"),
    );
    expect(Object.fromEntries(shapes)).toEqual(
      Object.fromEntries(Object.entries(expected).map(([tensor, { digest: _, ...rest }]) => [tensor, rest])),
    );
    for (const [tensor, { digest }] of Object.entries(expected))
      expect(digestOf(await forms.bytes(side.weights[tensor]!)), tensor).toBe(digest);
  });
});

describe("a checkpoint's side", () => {
  it("is every tensor as it is stored", async () => {
    const { base } = await planCase("llama-linear-r16");
    const { side, config, shapes } = checkpointSide(base);
    expect(config).toEqual(base.facts.config);
    expect([...shapes.keys()].sort()).toEqual(
      base.facts.weights.flatMap((file) => file.tensors.map((tensor) => tensor.name)).sort(),
    );
    expect(new Set(Object.values(side.weights).map(({ kind }) => kind))).toEqual(new Set(["stored"]));
  });

  it("is refused for an adapter, and for weights that a forward pass cannot read", async () => {
    const { base, adapter } = await planCase("llama-linear-r16");
    const config = { ...base.facts.config, quantization_config: { quant_method: "gptq" } };
    const quantised = { ...base, facts: { ...base.facts, config } };
    expect(() => checkpointSide(adapter)).toThrow(/is an adapter, not a checkpoint/);
    expect(() => checkpointSide(quantised)).toThrow(/is quantised \(gptq\)/);
  });
});

describe("an adapter that repeats layers", () => {
  const replicated = async () => {
    const { base, adapter } = await planCase("llama-qv-r8");
    const config = {
      ...adapter.facts.config,
      layers_to_transform: [0, 1],
      layer_replication: [
        [0, 2],
        [0, 1],
      ],
    };
    return { base, adapter, repeated: { ...adapter, facts: { ...adapter.facts, config }, weight: 1 } };
  };
  const choices = { weights: [1], tokenizer: null } as const;

  it("makes a deeper model, whose layers start from the base's", async () => {
    const { base, repeated } = await replicated();
    const { side, config, shapes } = referenceSide({ base, sources: [repeated], choices });
    expect(config.num_hidden_layers).toBe(3);
    expect(readModelSpec(config, shapes).layers).toHaveLength(3);
    const [first, third] = [0, 2].map((layer) => side.weights[`model.layers.${layer}.mlp.up_proj.weight`]);
    expect(third).toEqual(first);
    expect(side.weights["model.layers.0.self_attn.q_proj.weight"]!.kind).toBe("branches");
  });

  it("cannot stand beside one that does not", async () => {
    const { base, adapter, repeated } = await replicated();
    const sources = [repeated, { ...adapter, weight: 1 }];
    expect(() => referenceSide({ base, sources, choices })).toThrow(/make different models of the base/);
  });
});
