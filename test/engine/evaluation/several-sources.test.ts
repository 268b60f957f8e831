import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppError } from "../../../src/core/errors.ts";
import { evaluate } from "../../../src/core/evaluate.ts";
import { base as baseLeaf } from "../../../src/core/expr.ts";
import { exact } from "../../../src/core/numerics.ts";
import { candidateSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { lookupOf, planCase, relativeDifference } from "../../support/merge-cases.ts";
import { type Forms, openForms } from "../../support/side-forms.ts";

let forms: Forms;
beforeAll(async () => {
  forms = await openForms();
});
afterAll(() => forms.close());

const choices = { weights: [1], tokenizer: null } as const;

type Weighted = Readonly<Record<string, number>>;

/** Cases of one base, each with its weight; one may come twice. */
async function together(...weights: readonly Weighted[]) {
  const named = weights.flatMap((some) => Object.entries(some));
  const cases = await Promise.all(named.map(([name]) => planCase(name)));
  const base = cases[0]!.base;
  const sources = cases.map(({ adapter }, i) => ({ ...adapter, weight: named[i]![1] }));
  const labels = { base: "base", sources: named.map(([name]) => name) };
  return { cases, base, sources, make: () => referenceSide({ base, sources, choices, labels }) };
}

type Inputs = Omit<Awaited<ReturnType<typeof together>>, "make">;

/** W + Σ weightᵢ·(exprᵢ − W) in float64, each plan's expression over its own adapter; W is the base's `from`. */
async function weightedSum(tensor: string, { cases, base, sources }: Inputs, from = tensor) {
  const stored = (await lookupOf(base, [])).whole(baseLeaf(from)).values;
  const sum = stored.slice();
  for (const [i, { plan }] of cases.entries()) {
    const expr = plan.steps.find((step) => step.tensor === tensor)?.expr;
    if (!expr) continue;
    const { values } = evaluate(expr, await lookupOf(base, [sources[i]!]), exact);
    const { weight } = sources[i]!;
    for (let at = 0; at < sum.length; at++) sum[at]! += weight * (values[at]! - stored[at]!);
  }
  return sum;
}

function codesOf(make: () => unknown): string[] {
  try {
    make();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return (error.reasons ?? [{ code: error.code }]).map(({ code }) => code);
  }
  return [];
}

const Q = "model.layers.0.self_attn.q_proj.weight";
const HEAD = "lm_head.weight";
const EMBEDDING = "model.embed_tokens.weight";

describe("several adapters with weights", () => {
  it.each<[string, Record<string, number>, "branches" | "computed"]>([
    ["LoRA and rsLoRA side by side", { "llama-linear-r16": 0.5, "llama-rslora": -0.25 }, "branches"],
    ["one LoRA in part", { "llama-linear-r16": 0.3 }, "branches"],
    ["AdaLoRA, VeRA and LoRA", { adalora: 1, vera: 2, "llama-qv-r8": 1 }, "branches"],
    ["DoRA in part", { "llama-dora": 0.5 }, "computed"],
    ["DoRA and LoRA", { "llama-dora": 1, "llama-linear-r16": 1 }, "computed"],
    ["LoHa, OFT and LoRA", { loha: 0.5, oft: 0.5, "llama-linear-r16": -1 }, "computed"],
  ])("%s are the base with each one's change times its weight", async (_, weights, kind) => {
    const { make, ...inputs } = await together(weights);
    const { side, plan, plans, note } = make();
    const form = side.weights[Q]!;
    expect(form.kind).toBe(kind);
    expect(relativeDifference(await forms.value(form), await weightedSum(Q, inputs))).toBeLessThan(4e-6);
    expect(plans).toHaveLength(Object.keys(weights).length);
    // No recipe merges several, or a part of one.
    expect(plan).toBeNull();
    expect(note).toContain(kind === "branches" ? "as run-time branches" : "on the fly in float32");
  });

  it("are the base itself where all weights are 0", async () => {
    const { make, base } = await together({ "llama-linear-r16": 0, "llama-dora": 0 });
    const { values } = (await lookupOf(base, [])).whole(baseLeaf(Q));
    expect(relativeDifference(await forms.value(make().side.weights[Q]!), values)).toBeLessThan(1e-7);
  });

  it("keep what only one of them replaces", async () => {
    const { make, sources } = await together({ "llama-save-lm-head": 1, "llama-qv-r8": 0.5 });
    const { side, forms: counts } = make();
    expect(side.weights[HEAD]).toMatchObject({ kind: "stored" });
    const saved = (await lookupOf(sources[0]!, [])).whole(baseLeaf(savedHead(sources[0]!)));
    expect(await forms.value(side.weights[HEAD]!)).toEqual(saved.values);
    expect(counts).toEqual({ stored: 1, branches: 4, rows: 0, computed: 0 });
  });

  it("take a replacement of the same shape in part, as the way from the base to it", async () => {
    const { make, ...inputs } = await together({ "llama-save-lm-head": 0.25 });
    const form = make().side.weights[HEAD]!;
    expect(form.kind).toBe("computed");
    expect(relativeDifference(await forms.value(form), await weightedSum(HEAD, inputs))).toBeLessThan(4e-6);
  });

  it("replace rows of an embedding that are not the same", async () => {
    const { make, ...inputs } = await together({ "llama-token-rows": 1, "trainable-tokens": 1 });
    const form = make().side.weights[EMBEDDING]!;
    const wanted = await weightedSum(EMBEDDING, inputs);
    expect(relativeDifference(await forms.value(form), wanted)).toBeLessThan(4e-6);
  });

  it("of a tied pair untie it where one of them changes one side", async () => {
    const { make, ...inputs } = await together({ "llama-tied-embed": 1, "llama-tied-lm-head": 2 });
    const { side, config, shapes } = make();
    expect(config.tie_word_embeddings).toBe(false);
    expect(shapes.has(HEAD)).toBe(true);
    const { values } = (await lookupOf(inputs.base, [])).whole(baseLeaf(EMBEDDING));
    for (const tensor of [EMBEDDING, HEAD]) {
      // The base has no head of its own.
      const wanted = await weightedSum(tensor, inputs, EMBEDDING);
      expect(relativeDifference(await forms.value(side.weights[tensor]!), wanted)).toBeLessThan(4e-6);
      expect(relativeDifference(wanted, values)).toBeGreaterThan(1e-3);
    }
  });
});

const savedHead = ({ facts }: { facts: { weights: readonly { tensors: readonly { name: string }[] }[] } }) =>
  facts.weights.flatMap(({ tensors }) => tensors).find(({ name }) => name.includes("lm_head"))!.name;

describe("what has no weighted sum is refused, tensor by tensor", () => {
  it("two modules that were saved as a whole", async () => {
    const { make } = await together({ "llama-save-lm-head": 1, "llama-save-embed-head": 1 });
    expect(make).toThrow(/llama-save-lm-head and llama-save-embed-head change "lm_head.weight"/);
    expect(codesOf(make)).toEqual(["AMBIGUOUS_SOURCES"]);
  });

  it("another vocabulary beside a change of the old one", async () => {
    const { make } = await together({ "llama-vocab-resized": 1, "llama-lm-head-lora": 1 });
    expect(codesOf(make)).toEqual(["AMBIGUOUS_SOURCES"]);
  });

  it("a weight on another vocabulary", async () => {
    const { make } = await together({ "llama-vocab-resized": 0.5 });
    expect(new Set(codesOf(make))).toEqual(new Set(["WEIGHT_OF_REPLACEMENT"]));
  });

  it("one row of an embedding, replaced twice", async () => {
    const { make } = await together({ "llama-token-rows": 1 }, { "llama-token-rows": 1 });
    expect(make).toThrow("more than one of them replaces its row 3");
    expect(codesOf(make)).toEqual(["AMBIGUOUS_SOURCES"]);
  });

  it("refusals of all plans, all at once", async () => {
    const { base, sources } = await together({ "llama-linear-r16": 1, "llama-qv-r8": 1 });
    const wrong = { modules: ["q_prj"], layers: null };
    const make = () => referenceSide({ base, sources, choices: { ...choices, include: wrong } });
    expect(codesOf(make)).toEqual(["NOTHING_INCLUDED", "NOTHING_INCLUDED"]);
  });

  it("no adapter at all", async () => {
    const { base } = await together({ "llama-qv-r8": 1 });
    expect(codesOf(() => referenceSide({ base, sources: [], choices }))).toEqual(["NO_SOURCE"]);
  });

  it("the recipe of several, which cannot be merged yet: it needs a candidate", async () => {
    const { base, sources } = await together({ "llama-linear-r16": 1, "llama-qv-r8": 1 });
    const input = { base, sources, candidate: null, plan: null };
    expect(codesOf(() => candidateSide(input))).toEqual(["UNSUPPORTED_RECIPE"]);
  });
});

describe("a partial merge", () => {
  it("adapts on the un-merged side what the merge would, and nothing else", async () => {
    const include = { modules: ["q_proj"], layers: [1] };
    const { base, sources } = await together({ "llama-linear-r16": 1 });
    const { side, forms: counts } = referenceSide({ base, sources, choices: { ...choices, include } });
    expect(counts).toEqual({ stored: 0, branches: 1, rows: 0, computed: 0 });
    expect(side.weights["model.layers.1.self_attn.q_proj.weight"]!.kind).toBe("branches");
    expect(side.weights[Q]!.kind).toBe("stored");
  });
});
