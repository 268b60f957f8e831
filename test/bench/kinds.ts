import type { Expr, Leaf } from "../../src/core/expr.ts";
import * as x from "../../src/core/expr.ts";

/** A change to a matrix of out × in, as an adapter kind writes it, and the shapes of what the adapter stores. */
export interface KindExample {
  readonly kind: string;
  /** Of the adapter's stored tensors, by name. */
  readonly stored: Readonly<Record<string, readonly number[]>>;
  /** Stored as pairs of whole numbers, a row and a column: how many. */
  readonly places?: Readonly<Record<string, number>>;
  readonly expr: Expr;
}

const w = x.base("w");
const of = (name: string): Leaf => x.source(0, name);

/** Kinds as they merge one linear layer. */
export function kindExamples(out: number, inputs: number): KindExample[] {
  const r = 16;
  const factors = { a: [r, inputs], b: [out, r] };
  const product = x.matmul(of("b"), of("a"));
  const total = x.add(w, x.scale(2, product));
  const low = (roundFirst: boolean) =>
    x.lowRankUpdate({ base: "w", left: of("b"), right: of("a"), scale: 2, roundFirst });
  const ranked = (rank: number): KindExample => ({
    kind: `LoRA, rank ${rank}`,
    stored: { a: [rank, inputs], b: [out, rank] },
    expr: low(false),
  });
  const transposed = {
    a: [r, out],
    b: [inputs, r],
  };
  const whole = { rows: out, columns: inputs, first: 0 };
  const sparse = Math.floor((out * inputs) / 100);
  return [
    ...[8, 16, 64, 256].map(ranked),
    { kind: "LoRA, rank 16, rounded first", stored: factors, expr: low(true) },
    {
      kind: "LoRA, rank 16, stored transposed",
      stored: transposed,
      expr: x.lowRankUpdate({
        base: "w",
        left: x.transpose(of("a")),
        right: x.transpose(of("b")),
        scale: 2,
        roundFirst: false,
      }),
    },
    {
      kind: "DoRA, rank 16",
      stored: { ...factors, m: [out] },
      expr: x.mul(x.div(x.reshape(of("m"), [out, 1]), x.norm(total, 1, "lanes")), total),
    },
    {
      kind: "DoRA, rank 16, stored transposed",
      stored: { ...factors, m: [inputs] },
      expr: x.mul(x.div(x.reshape(of("m"), [1, inputs]), x.norm(total, 0, "sequence")), total),
    },
    { kind: "AdaLoRA, rank 16", stored: factors, expr: x.add(w, x.over(12, x.scale(16, product))) },
    {
      kind: "VeRA, rank 256",
      stored: { a: [256, inputs], b: [out, 256], d: [256], e: [out] },
      expr: x.lowRankUpdate({
        base: "w",
        left: x.mul(x.reshape(of("e"), [out, 1]), of("b")),
        right: x.mul(x.reshape(of("d"), [256, 1]), of("a")),
        scale: 1,
        roundFirst: false,
      }),
    },
    {
      kind: "LoHa, rank 16",
      stored: { ...factors, c: [r, inputs], d: [out, r] },
      expr: x.add(w, x.scale(2, x.mul(product, x.matmul(of("d"), of("c"))))),
    },
    {
      kind: "LoKr, 64×64",
      stored: { a: [64, 64], b: [out / 64, inputs / 64] },
      expr: x.add(w, x.scale(2, x.kron(of("a"), of("b")))),
    },
    { kind: "IA3", stored: { l: [out] }, expr: x.mul(w, x.reshape(of("l"), [out, 1])) },
    {
      kind: "HiRA, rank 16",
      stored: factors,
      expr: x.add(w, x.round(x.mul(w, x.round(product)))),
    },
    {
      kind: "DeLoRA, rank 16",
      stored: { ...factors, n: [inputs] },
      expr: x.add(w, x.round(x.mul(product, x.reshape(of("n"), [1, inputs])))),
    },
    {
      kind: "MiSS",
      stored: { m: [r, out] },
      expr: x.add(w, x.repeat(x.transpose(of("m")), 1, inputs)),
    },
    {
      kind: "PEANUT, rank 16",
      stored: { p: [r, out], q: [out, r] },
      expr: x.add(w, x.round(x.scale(2, x.matmul(of("q"), x.relu(x.matmul(of("p"), w)))))),
    },
    { kind: "OFT, blocks of 32", stored: { r: [inputs / 32, 32, 32] }, expr: x.call("turn", [w, of("r")]) },
    { kind: "HRA, 8 directions", stored: { u: [inputs, 8] }, expr: x.call("reflect", [w, of("u")]) },
    {
      kind: "RoAd",
      stored: { c: [out, 1], s: [out, 1] },
      expr: x.call("turn-pairs", [w, partners(out), of("c"), of("s")], { half: 32, rows: out, first: 0 }),
    },
    {
      kind: "C3A, blocks of 64",
      stored: { k: [out / 64, inputs / 64, 64] },
      expr: x.add(
        w,
        x.round(x.over(inputs, x.round(x.call("circulant", [of("k")], { first: 0, count: out })))),
      ),
    },
    {
      kind: "SHiRA, 1 % of the weights",
      stored: { v: [sparse] },
      places: { i: sparse },
      expr: x.call("add-at", [w, of("v"), of("i")], whole),
    },
    {
      kind: "replaced rows",
      stored: { t: [8, inputs] },
      expr: x.setRows(w, [1, 5, 9, 99, 7, 3, 2, 70], of("t")),
    },
  ];
}

function partners(rows: number): Expr {
  const parts: Expr[] = [];
  for (let start = 0; start < rows; start += 64) {
    parts.push(x.scale(-1, x.slice(w, 0, start + 32, start + 64)), x.slice(w, 0, start, start + 32));
  }
  return x.concat(0, parts);
}
