import { afterAll, describe, expect, it } from "vitest";
import { asBranches, type Branches, type UnmergedForm, unmergedForm } from "../../src/core/branches.ts";
import { elementCount } from "../../src/core/dtype.ts";
import { evaluate, type NdArray, type TensorLookup } from "../../src/core/evaluate.ts";
import {
  add,
  base,
  div,
  type Expr,
  lowRankUpdate,
  matmul,
  mul,
  norm,
  over,
  relu,
  reshape,
  round,
  scale,
  setRows,
  slice,
  source,
  sub,
  transpose,
} from "../../src/core/expr.ts";
import { exact } from "../../src/core/numerics.ts";
import { type Example, merge } from "../support/adapters.ts";
import { lookupOf, MERGED_CASES, planCase, relativeDifference } from "../support/merge-cases.ts";
import { type Part, peftTypeOf, RANDOM_ADAPTERS } from "../support/random-adapters.ts";

/*
 * The value of each form, put together here from its parts in float64 and by loops of its own, against the float64 value
 * of the plan's expression.
 */

/** Of factor ⊙ (W + Σ scale·left·right), element by element. */
function branchesValue({ base: leaf, terms, factor }: Branches, lookup: TensorLookup): NdArray {
  const stored = lookup.whole(leaf);
  const [rows, columns] = stored.shape as [number, number];
  const values = stored.values.slice();
  for (const { left, right, scale: by } of terms) {
    const [l, r] = [left, right].map((expr) => evaluate(expr, lookup, exact)) as [NdArray, NdArray];
    const k = l.shape[1]!;
    expect([l.shape, r.shape]).toEqual([
      [rows, k],
      [k, columns],
    ]);
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        let sum = 0;
        for (let n = 0; n < k; n++) sum += l.values[i * k + n]! * r.values[n * columns + j]!;
        values[i * columns + j]! += by * sum;
      }
  }
  if (factor) {
    const lines = evaluate(factor.expr, lookup, exact).values;
    const byRow = factor.along === "rows";
    expect(lines).toHaveLength(byRow ? rows : columns);
    for (let at = 0; at < values.length; at++)
      values[at]! *= lines[byRow ? Math.floor(at / columns) : at % columns]!;
  }
  return { shape: stored.shape, values };
}

function formValue(form: UnmergedForm, lookup: TensorLookup): Float64Array {
  if (form.kind === "stored") return lookup.whole(form.leaf).values;
  if (form.kind === "branches") return branchesValue(form, lookup).values;
  if (form.kind === "rows") return evaluate(setRows(form.base, form.rows, form.to), lookup, exact).values;
  return evaluate(form.expr, lookup, exact).values;
}

const shapesOf = (lookup: TensorLookup) => (leaf: Parameters<TensorLookup["whole"]>[0]) =>
  lookup.whole(leaf).shape;

/** kind of adapter → form → tensors */
const table = new Map<string, Record<UnmergedForm["kind"], number>>();
function count(kind: string, form: UnmergedForm["kind"]): void {
  const row = table.get(kind) ?? { branches: 0, stored: 0, rows: 0, computed: 0 };
  row[form]++;
  table.set(kind, row);
}
afterAll(() => {
  const lines = [...table].map(
    ([kind, { branches, stored, rows, computed }]) =>
      `${kind.padEnd(16)}${[branches, stored, rows, computed].map((n) => String(n).padStart(10)).join("")}`,
  );
  console.log(`kind              branches    stored      rows  computed\n${lines.join("\n")}`);
});

/** Cases of LoRA whose matrices have another form than branches: singular values of the base, rows of an embedding. */
const OTHERWISE: Readonly<Record<string, UnmergedForm["kind"]>> = {
  "llama-kasa": "computed",
  "llama-tied-token-rows": "rows",
  "llama-token-rows": "rows",
};

describe("the un-merged form of what PEFT wrote computes what its merge computes before rounding", () => {
  it.each(MERGED_CASES)("%s", async (name) => {
    const { base: model, adapter, plan, peftType } = await planCase(name);
    const lookup = await lookupOf(model, [adapter]);
    const changed = plan.steps.flatMap(({ tensor, shape, expr }) => (expr ? [{ tensor, shape, expr }] : []));
    expect(changed.length).toBeGreaterThan(0);
    const kinds = new Set<string>();
    for (const { tensor, shape, expr } of changed) {
      const form = unmergedForm(expr, shapesOf(lookup));
      const value = formValue(form, lookup);
      expect(value, tensor).toHaveLength(elementCount(shape));
      const oracle = evaluate(expr, lookup, exact).values;
      expect(relativeDifference(value, oracle), tensor).toBeLessThan(1e-10);
      count(peftType, form.kind);
      if (shape.length === 2 && form.kind !== "stored") kinds.add(form.kind);
    }
    if (peftType === "LORA" && kinds.size > 0) {
      expect(kinds).toContain(OTHERWISE[name] ?? "branches");
      if (!OTHERWISE[name]) expect(kinds).toEqual(new Set(["branches"]));
    }
  });
});

describe("the same holds for random adapters of every kind", () => {
  const draws = [0, 1, 2].map((choice) => ({ rows: 9 + choice, columns: 8, rank: 2 + choice, choice }));
  it.each(Object.keys(RANDOM_ADAPTERS))("%s", (name) => {
    for (const draw of draws) {
      const { targets, problems, lookup } = merge(randomExample(name, draw));
      expect(problems).toEqual([]);
      expect(targets.length).toBeGreaterThan(0);
      for (const { expr } of targets) {
        const form = unmergedForm(expr, shapesOf(lookup));
        const oracle = evaluate(expr, lookup, exact).values;
        expect(relativeDifference(formValue(form, lookup), oracle)).toBeLessThan(1e-10);
        if (BRANCHED.has(name)) expect(form.kind).toBe("branches");
      }
    }
  });
});

/** Kinds that change matrices by low-rank terms, or by one number a row or column. */
const BRANCHED = new Set(["LORA", "LORA with use_dora", "ADALORA", "VERA", "PVERA", "DELORA", "TINYLORA"]);

function randomExample(name: string, draw: Parameters<(typeof RANDOM_ADAPTERS)[string]>[0]): Example {
  const made = RANDOM_ADAPTERS[name]!(draw);
  let state = 1;
  const next = () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647 - 0.5;
  };
  const tensor = ({ shape, values, size = 0.25, dtype = "F32" }: Part) => {
    const flat = values ?? Array.from({ length: elementCount(shape) }, () => size * next());
    return { dtype, values: nested(flat, shape) };
  };
  const module = "model.layers.0.self_attn.q_proj";
  return {
    base: {
      [`${module}.weight`]: tensor({ shape: [made.rows, made.columns] }),
      ...(made.bias && { [`${module}.bias`]: tensor({ shape: [made.rows] }) }),
    },
    adapter: {
      ...Object.fromEntries(
        Object.entries(made.parts).map(([end, part]) => [`${module}.${end}`, tensor(part)]),
      ),
      ...Object.fromEntries(Object.entries(made.shared ?? {}).map(([key, part]) => [key, tensor(part)])),
    },
    config: { peft_type: peftTypeOf(name), target_modules: ["q_proj"], ...made.config },
  };
}

type Nested = readonly (number | Nested)[];

function nested(values: readonly number[], shape: readonly number[]): Nested {
  const [length, ...rest] = shape;
  if (rest.length === 0) return values;
  const each = values.length / length!;
  return Array.from({ length: length! }, (_, i) => nested(values.slice(i * each, (i + 1) * each), rest));
}

const W = base("W");
const B = source(0, "B");
const A = source(0, "A");
const SHAPES: Readonly<Record<string, readonly number[]>> = {
  W: [4, 3],
  B: [4, 2],
  A: [2, 3],
  "B of another": [4, 1],
  "A of another": [1, 3],
  rows: [4, 1],
  columns: [3],
  copy: [4, 3],
  some: [2, 3],
};
const recognise = (expr: Expr) => asBranches(expr, (leaf) => SHAPES[leaf.tensor]!);
const other = matmul(source(0, "B of another"), source(0, "A of another"));

describe("branches are found in", () => {
  it.each<[string, Expr, Branches]>([
    [
      "an update that is rounded before it is added",
      lowRankUpdate({ base: "W", left: B, right: A, scale: 2, roundFirst: true }),
      { base: W, terms: [{ left: B, right: A, scale: 2 }], factor: null },
    ],
    [
      "a transposed product, whose factors change places",
      add(W, scale(0.5, transpose(matmul(transpose(A), transpose(B))))),
      {
        base: W,
        terms: [{ left: transpose(transpose(B)), right: transpose(transpose(A)), scale: 0.5 }],
        factor: null,
      },
    ],
    [
      "two updates, one after the other",
      add(round(add(W, scale(2, matmul(B, A)))), scale(3, other)),
      {
        base: W,
        terms: [
          { left: B, right: A, scale: 2 },
          { left: source(0, "B of another"), right: source(0, "A of another"), scale: 3 },
        ],
        factor: null,
      },
    ],
    [
      "an update that is taken away, with a divisor",
      sub(W, over(4, scale(2, matmul(B, A)))),
      { base: W, terms: [{ left: B, right: A, scale: -0.5 }], factor: null },
    ],
    [
      "a product with a number for each column",
      add(W, mul(matmul(B, A), source(0, "columns"))),
      { base: W, terms: [{ left: B, right: mul(A, source(0, "columns")), scale: 1 }], factor: null },
    ],
    [
      "a product with a number for each row",
      add(W, mul(source(0, "rows"), matmul(B, A))),
      { base: W, terms: [{ left: mul(source(0, "rows"), B), right: A, scale: 1 }], factor: null },
    ],
    [
      "rows of a taller product",
      add(W, slice(matmul(source(0, "tall"), A), 0, 2, 6)),
      { base: W, terms: [{ left: slice(source(0, "tall"), 0, 2, 6), right: A, scale: 1 }], factor: null },
    ],
    [
      "the adapter's own copy of the matrix",
      add(round(source(0, "copy")), matmul(B, A)),
      { base: source(0, "copy"), terms: [{ left: B, right: A, scale: 1 }], factor: null },
    ],
    [
      "a factor alone (IA3)",
      mul(W, source(0, "columns")),
      { base: W, terms: [], factor: { along: "columns", expr: source(0, "columns") } },
    ],
    [
      "DoRA, within a reshape that changes nothing",
      reshape(
        mul(div(source(0, "rows"), norm(add(W, matmul(B, A)), 1, "lanes")), add(W, matmul(B, A))),
        [4, 3],
      ),
      {
        base: W,
        terms: [{ left: B, right: A, scale: 1 }],
        factor: { along: "rows", expr: div(source(0, "rows"), norm(add(W, matmul(B, A)), 1, "lanes")) },
      },
    ],
  ])("%s", (_, expr, wanted) => {
    expect(asBranches(expr, (leaf) => ({ ...SHAPES, tall: [8, 2] })[leaf.tensor]!)).toEqual(wanted);
  });
});

describe("there are no branches in", () => {
  it.each<[string, Expr]>([
    ["a product that reads the base", add(W, matmul(B, matmul(transpose(B), W)))],
    ["a sum of two stored matrices", add(W, source(0, "copy"))],
    ["a multiple of the base", add(scale(2, W), matmul(B, A))],
    ["a base that is taken away", sub(matmul(B, A), W)],
    ["a transposed base", add(transpose(base("Wt")), matmul(B, A))],
    ["a term beside the factor", add(mul(W, source(0, "columns")), matmul(B, A))],
    ["a product, element by element, of two products", add(W, mul(matmul(B, A), matmul(B, A)))],
    ["a function of a product", add(W, relu(matmul(B, A)))],
    [
      "a product that is stretched over the rows",
      add(W, matmul(source(0, "A of another"), source(0, "square"))),
    ],
    ["rows that are replaced", setRows(W, [0, 2], source(0, "some"))],
    ["a product without a base", matmul(B, A)],
  ])("%s", (_, expr) => {
    const shapes: Record<string, readonly number[]> = { ...SHAPES, Wt: [3, 4], square: [3, 3] };
    expect(asBranches(expr, (leaf) => shapes[leaf.tensor]!)).toBeNull();
  });

  it("a kernel of a convolution, which is no matrix", () => {
    const kernel = add(base("K"), reshape(matmul(B, A), [4, 3, 1, 1]));
    const shapes: Record<string, readonly number[]> = { ...SHAPES, K: [4, 3, 1, 1] };
    expect(unmergedForm(kernel, (leaf) => shapes[leaf.tensor]!)).toEqual({ kind: "computed", expr: kernel });
  });

  it("a whole module, whose stored values are taken as they are", () => {
    const expr = reshape(round(source(0, "copy")), [12]);
    expect(unmergedForm(expr, (leaf) => SHAPES[leaf.tensor]!)).toEqual({
      kind: "stored",
      leaf: source(0, "copy"),
    });
    expect(recognise(expr)).toBeNull();
  });
});

describe("a BD-LoRA factor with blocks on its diagonal", () => {
  it("is a branch as PEFT runs it", () => {
    const module = "model.layers.0.self_attn.q_proj";
    const { targets, problems, lookup } = merge({
      base: {
        [`${module}.weight`]: nested(
          Array.from({ length: 32 }, (_, i) => Math.sin(i)),
          [4, 8],
        ),
      },
      adapter: {
        [`${module}.lora_A.weight`]: nested(
          Array.from({ length: 8 }, (_, i) => Math.cos(i)),
          [2, 4],
        ),
        [`${module}.lora_B.weight`]: nested([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]),
      },
      config: {
        peft_type: "LORA",
        r: 2,
        lora_alpha: 4,
        target_modules: ["q_proj"],
        use_bdlora: { target_modules_bd_a: ["q_proj"], nblocks: 2, match_strict: true },
      },
    });
    expect(problems).toEqual([]);
    const form = unmergedForm(targets[0]!.expr, shapesOf(lookup));
    expect(form.kind).toBe("branches");
    const oracle = evaluate(targets[0]!.expr, lookup, exact).values;
    expect(relativeDifference(formValue(form, lookup), oracle)).toBeLessThan(1e-10);
  });
});
