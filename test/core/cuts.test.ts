import { describe, expect, it } from "vitest";
import { cutOf, workOf } from "../../src/core/cuts.ts";
import { evaluate, type NdArray } from "../../src/core/evaluate.ts";
import * as e from "../../src/core/expr.ts";
import { type Cut, leafPart } from "../../src/core/leaf-part.ts";
import { canonical } from "../../src/core/numerics.ts";
import { seeded } from "../support/canonical.ts";

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  W: [6, 8],
  V: [6, 8],
  A: [3, 8],
  B: [6, 3],
  row: [1, 8],
  flat: [8],
  column: [6, 1],
  T: [2, 6, 8],
  thin: [6, 1, 8],
};

const random = seeded(7);
const VALUES = Object.fromEntries(
  Object.entries(SHAPES).map(([name, shape]): [string, NdArray] => {
    const count = shape.reduce((product, dim) => product * dim, 1);
    return [name, { shape, values: Float64Array.from({ length: count }, () => Math.fround(random() - 0.5)) }];
  }),
);

const shapes = (leaf: e.Leaf) => SHAPES[leaf.tensor]!;
const arithmetic = canonical("F32");

/** With every read of a part told. */
function computed(expr: e.Expr, told: (tensor: string, cuts: readonly Cut[]) => void = () => {}): NdArray {
  const whole = (leaf: e.Leaf) => {
    told(leaf.tensor, []);
    return VALUES[leaf.tensor]!;
  };
  const part = (leaf: e.Leaf, cuts: readonly Cut[]) => {
    told(leaf.tensor, cuts);
    const cutting = cuts.reduce(
      (of: e.Expr, { axis, start, stop }) => e.slice(of, axis, start, stop),
      e.base(leaf.tensor),
    );
    return evaluate(cutting, { whole: () => VALUES[leaf.tensor]! }, arithmetic);
  };
  return evaluate(expr, { whole, part }, arithmetic);
}

const t = (name: string) => e.base(name);

/** Expressions whose value has 6×8 or 2×6×8 elements, one for each operation. */
const EXPRESSIONS: Readonly<Record<string, e.Expr>> = {
  "a stored tensor": t("W"),
  "a product": e.matmul(t("B"), t("A")),
  "a low-rank update": e.add(t("W"), e.scale(0.5, e.matmul(t("B"), t("A")))),
  "operands that stretch along rows": e.mul(t("row"), e.add(t("W"), t("flat"))),
  "operands that stretch along columns": e.div(e.sub(t("W"), t("column")), t("column")),
  "lengths of rows": e.mul(t("W"), e.norm(t("V"), 1, "lanes")),
  "lengths of columns": e.mul(t("W"), e.norm(t("V"), 0, "sequence")),
  "steps that keep the shape": e.relu(e.round(e.over(3, t("W")))),
  "a transposed product": e.transpose(e.matmul(e.transpose(t("A")), e.transpose(t("B")))),
  "a reshape that drops an axis of one": e.reshape(t("thin"), [6, 8]),
  "a reshape of everything": e.reshape(e.reshape(t("W"), [8, 6]), [6, 8]),
  "parts put together by rows": e.concat(0, [e.slice(t("W"), 0, 4, 6), e.slice(t("V"), 0, 0, 4)]),
  "parts put together by columns": e.concat(1, [e.slice(t("W"), 1, 5, 8), e.slice(t("V"), 1, 0, 5)]),
  "repeated columns": e.repeat(e.slice(t("W"), 1, 1, 4), 1, 8),
  "repeated rows": e.repeat(t("row"), 0, 6),
  "replaced rows": e.setRows(t("W"), [1, 4], e.slice(t("V"), 0, 2, 4)),
  "a Kronecker product": e.kron(e.slice(t("W"), 0, 0, 3), e.slice(t("column"), 0, 0, 2)),
  "three axes": e.add(t("T"), e.concat(0, [e.reshape(t("W"), [1, 6, 8]), e.reshape(t("V"), [1, 6, 8])])),
};

describe("a part of an expression's value", () => {
  it.each(Object.entries(EXPRESSIONS))("of %s is the same part of the whole", (_, expr) => {
    const { shape } = computed(expr);
    for (const [axis, dim] of shape.entries()) {
      for (const [start, stop] of [
        [0, 1],
        [1, Math.min(dim, 4)],
        [dim - 1, dim],
        [0, dim],
      ] as const) {
        if (start >= stop) continue;
        const expected = computed(e.slice(expr, axis, start, stop));
        expect(
          computed(cutOf(expr, { axis, start, stop }, shapes)),
          `axis ${axis}, ${start}…${stop}`,
        ).toEqual(expected);
      }
    }
  });

  it("reads of a low-rank update's operands only what it needs", () => {
    const read: [string, number][] = [];
    const row = cutOf(EXPRESSIONS["a low-rank update"]!, { axis: 0, start: 2, stop: 3 }, shapes);
    const piece = cutOf(row, { axis: 1, start: 4, stop: 6 }, shapes);
    computed(piece, (tensor, cuts) => {
      const left = cuts.reduce(
        (size, { axis, start, stop }) => (size / SHAPES[tensor]![axis]!) * (stop - start),
        1,
      );
      read.push([tensor, left * VALUES[tensor]!.values.length]);
    });
    expect(Object.fromEntries(read)).toEqual({ W: 2, B: 3, A: 6 });
    expect(workOf(piece, shapes)).toBeLessThan(40);
  });
});

describe("a part of a stored tensor", () => {
  it("is recognised through slices without steps, from the innermost to the outermost", () => {
    const inner = e.slice(t("W"), 0, 1, 5);
    expect(leafPart(e.slice(inner, 1, 2, 3))).toEqual({
      leaf: t("W"),
      cuts: [
        { axis: 0, start: 1, stop: 5 },
        { axis: 1, start: 2, stop: 3 },
      ],
    });
    expect(leafPart(e.slice(t("W"), 0, 0, 6, 2))).toBeNull();
    expect(leafPart(e.relu(t("W")))).toBeNull();
  });
});
