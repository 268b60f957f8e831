import type { Activation } from "../../core/decoder/spec.ts";
import { GraphBuilder, type Ref } from "../onnx-graph.ts";

/*
 * The graphs that a forward pass is made of. Sizes that differ from run to run are negative, so that one session serves
 * every layer, every document and every model; weights are inputs. Only operators that each provider has.
 */

type Model = Uint8Array<ArrayBuffer>;

/** Sizes that differ from run to run. */
const [TOKENS, INNER, OUT, KEYS] = [-1, -2, -3, -4];

const kept = new Map<string, Model>();

/** A model is built once for each key. */
function once(key: string, build: (g: GraphBuilder) => Ref): Model {
  const known = kept.get(key);
  if (known) return known;
  const g = new GraphBuilder();
  const model = g.encode(build(g));
  kept.set(key, model);
  return model;
}

export type Layout = "out-in" | "in-out";

/** x·Wᵀ of x [tokens, in] and W [out, in], or x·W of a W that is stored [in, out]. */
export function linearGraph(layout: Layout): Model {
  return once(`linear ${layout}`, (g) => {
    const x = g.input("x", [TOKENS, INNER]);
    return g.node("Gemm", [x, weightInput(g, layout)], [TOKENS, OUT], transB(layout));
  });
}

/** The same product, summed in two halves over the inputs: another rounding of the same value. */
export function halvesGraph(layout: Layout, inner: number): Model {
  return once(`halves ${layout} ${inner}`, (g) => {
    const x = g.input("x", [TOKENS, inner]);
    const weight = g.input("w", layout === "out-in" ? [OUT, inner] : [inner, OUT]);
    const middle = Math.ceil(inner / 2);
    const part = (from: number, to: number, sum: Ref[]) =>
      g.node(
        "Gemm",
        [cut(g, x, 1, from, to), cut(g, weight, layout === "out-in" ? 1 : 0, from, to), ...sum],
        [TOKENS, OUT],
        transB(layout),
      );
    return part(0, middle, [part(middle, inner, [])]);
  });
}

/** y + z·leftᵀ (or z·right): the second product of a low-rank branch, added. */
export function addProductGraph(layout: Layout): Model {
  return once(`add product ${layout}`, (g) => {
    const y = g.input("y", [TOKENS, OUT]);
    const z = g.input("z", [TOKENS, INNER]);
    return g.node("Gemm", [z, weightInput(g, layout), y], [TOKENS, OUT], transB(layout));
  });
}

const transB = (layout: Layout) => [{ name: "transB", int: layout === "out-in" ? 1 : 0 }];

function weightInput(g: GraphBuilder, layout: Layout): Ref {
  return g.input("w", layout === "out-in" ? [OUT, INNER] : [INNER, OUT]);
}

function cut(g: GraphBuilder, of: Ref, axis: number, start: number, stop: number): Ref {
  const shape = of.shape.map((size, i) => (i === axis ? stop - start : size));
  return g.node("Slice", [of, g.ints([start]), g.ints([stop]), g.ints([axis]), g.ints([1])], shape);
}

/** x / √(mean(x²) + ε) · w over rows of x [rows, width]. */
export function rmsNormGraph(epsilon: number): Model {
  return once(`rms ${epsilon}`, (g) => {
    const x = g.input("x", [TOKENS, INNER]);
    const w = g.input("w", [INNER]);
    const squares = g.node("Mul", [x, x], x.shape);
    const mean = g.node(
      "ReduceMean",
      [squares],
      [TOKENS, 1],
      [
        { name: "axes", ints: [-1] },
        { name: "keepdims", int: 1 },
      ],
    );
    const root = g.node("Sqrt", [g.node("Add", [mean, g.float(epsilon)], mean.shape)], mean.shape);
    return g.node("Mul", [g.node("Div", [x, root], x.shape), w], x.shape);
  });
}

/** (x − mean) / √(var + ε) · w + b over rows. */
export function layerNormGraph(epsilon: number): Model {
  return once(`layer norm ${epsilon}`, (g) => {
    const x = g.input("x", [TOKENS, INNER]);
    const [w, b] = [g.input("w", [INNER]), g.input("b", [INNER])];
    return g.node("LayerNormalization", [x, w, b], x.shape, [
      { name: "axis", int: -1 },
      { name: "epsilon", float: epsilon },
    ]);
  });
}

/** Rotates pairs (i, i + dims/2) of the first `dims` of each head; x [tokens, heads, width], cos and sin [tokens, 1, dims/2]. */
export function ropeGraph(heads: number, width: number, dims: number): Model {
  return once(`rope ${heads} ${width} ${dims}`, (g) => {
    const x = g.input("x", [TOKENS, heads, width]);
    const half = dims / 2;
    const cos = g.input("cos", [TOKENS, 1, half]);
    const sin = g.input("sin", [TOKENS, 1, half]);
    const first = cut(g, x, 2, 0, half);
    const second = cut(g, x, 2, half, dims);
    const times = (a: Ref, b: Ref) => g.node("Mul", [a, b], a.shape);
    const turned = [
      g.node("Sub", [times(first, cos), times(second, sin)], first.shape),
      g.node("Add", [times(second, cos), times(first, sin)], first.shape),
      ...(dims < width ? [cut(g, x, 2, dims, width)] : []),
    ];
    return g.node("Concat", turned, x.shape, [{ name: "axis", int: 2 }]);
  });
}

export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly softcap: number | null;
}

/**
 * softmax(scale · q·kᵀ + mask)·v of q [queries, heads·width], k and v [keys, kvHeads·width], mask [queries, keys]; heads
 * share keys in groups.
 */
export function attentionGraph(shape: AttentionShape): Model {
  const { heads, kvHeads, headDim, scale, softcap } = shape;
  return once(`attention ${JSON.stringify(shape)}`, (g) => {
    const group = heads / kvHeads;
    const q = g.input("q", [TOKENS, heads * headDim]);
    const k = g.input("k", [KEYS, kvHeads * headDim]);
    const v = g.input("v", [KEYS, kvHeads * headDim]);
    const mask = g.input("mask", [TOKENS, KEYS]);
    const reshape = (of: Ref, to: readonly number[], sizes: readonly number[]) =>
      g.node("Reshape", [of, g.ints(to)], sizes);
    const turn = (of: Ref, perm: readonly number[]) =>
      g.node(
        "Transpose",
        [of],
        perm.map((axis) => of.shape[axis]!),
        [{ name: "perm", ints: perm }],
      );
    const queries = turn(
      reshape(q, [-1, kvHeads, group, headDim], [TOKENS, kvHeads, group, headDim]),
      [1, 2, 0, 3],
    );
    const keys = reshape(
      turn(reshape(k, [-1, kvHeads, headDim], [KEYS, kvHeads, headDim]), [1, 2, 0]),
      [kvHeads, 1, headDim, -1],
      [kvHeads, 1, headDim, KEYS],
    );
    const values = reshape(
      turn(reshape(v, [-1, kvHeads, headDim], [KEYS, kvHeads, headDim]), [1, 0, 2]),
      [kvHeads, 1, -1, headDim],
      [kvHeads, 1, KEYS, headDim],
    );
    const all = [kvHeads, group, TOKENS, KEYS];
    const product = g.node("MatMul", [queries, keys], all);
    const scores = capped(g, g.node("Mul", [product, g.float(Math.fround(scale))], all), softcap);
    const weights = g.node("Softmax", [g.node("Add", [scores, mask], all)], all, [{ name: "axis", int: -1 }]);
    const mixed = g.node("MatMul", [weights, values], [kvHeads, group, TOKENS, headDim]);
    return reshape(turn(mixed, [2, 0, 1, 3]), [-1, heads * headDim], [TOKENS, heads * headDim]);
  });
}

/** c·tanh(x / c), or x. */
function capped(g: GraphBuilder, x: Ref, cap: number | null): Ref {
  if (cap === null) return x;
  const c = g.float(Math.fround(cap));
  return g.node("Mul", [g.node("Tanh", [g.node("Div", [x, c], x.shape)], x.shape), c], x.shape);
}

/** scale · x, softly capped: what becomes of a head's product. */
export function logitsGraph(scale: number, softcap: number | null): Model {
  return once(`logits ${scale} ${softcap}`, (g) => {
    const x = g.input("x", [TOKENS, OUT]);
    const by = scale === 1 ? x : g.node("Mul", [x, g.float(Math.fround(scale))], x.shape);
    return capped(g, by, softcap);
  });
}

/** act(x), or act(x) · up. */
export function activationGraph(activation: Activation, gated: boolean): Model {
  return once(`activation ${activation} ${gated}`, (g) => {
    const x = g.input("x", [TOKENS, INNER]);
    const value = activated(g, x, activation);
    return gated ? g.node("Mul", [value, g.input("up", x.shape)], x.shape) : value;
  });
}

const GELU_TANH = Math.sqrt(2 / Math.PI);

function activated(g: GraphBuilder, x: Ref, activation: Activation): Ref {
  const unary = (op: string, of: Ref) => g.node(op, [of], x.shape);
  const times = (a: Ref, b: Ref) => g.node("Mul", [a, b], x.shape);
  const number = (value: number) => g.float(Math.fround(value));
  switch (activation) {
    case "silu":
      return times(x, unary("Sigmoid", x));
    case "relu":
      return unary("Relu", x);
    case "relu2": {
      const positive = unary("Relu", x);
      return times(positive, positive);
    }
    case "tanh":
      return unary("Tanh", x);
    case "gelu": {
      const erf = unary("Erf", times(x, number(Math.SQRT1_2)));
      return times(times(x, number(0.5)), g.node("Add", [erf, number(1)], x.shape));
    }
    case "gelu_tanh": {
      const cube = times(times(x, x), x);
      const inner = g.node("Add", [x, times(cube, number(0.044715))], x.shape);
      const tanh = unary("Tanh", times(inner, number(GELU_TANH)));
      return times(times(x, number(0.5)), g.node("Add", [tanh, number(1)], x.shape));
    }
  }
}
