import { isConv1D } from "../arch.ts";
import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { elementCount } from "../dtype.ts";
import {
  add,
  base,
  call,
  type Expr,
  lowRankUpdate,
  matmul,
  mul,
  reshape,
  round,
  scale,
  transpose,
} from "../expr.ts";
import { MAX_TRUNCATED_SIDE } from "../functions-lora.ts";
import { doraScaled } from "./dora.ts";
import type { AdapterTarget } from "./index.ts";
import {
  finding,
  isFinding,
  type LoraModule,
  type Made,
  required,
  type Scaling,
  scalingOf,
} from "./lora-parts.ts";
import { findTensor, read } from "./parts.ts";
import { ONE_EXPERT } from "./targets.ts";

/** Left and right factor of a change as a matrix, and how it is put together with what it changes. */
interface Change extends Scaling {
  readonly left: Expr;
  readonly right: Expr;
  /** The change is rounded to the base's type before it is added. */
  readonly roundFirst: boolean;
  /** DoRA: which lines of the weight have a length of their own. */
  readonly lines: "rows" | "columns";
}

/**
 * LoRA on linear layers, `W' = W + s·B·A` with A `lora_A.weight` (r×in), B `lora_B.weight` (out×r) and `s = alpha/r`, with
 * rsLoRA `alpha/√r` (Hu 2021, Kalajdzievski 2023); of a Conv1D, which is stored (in, out), `W + s·(B·A)ᵀ`; of a
 * convolution with A (r×in×kernel) and B (out×r×1…) the same over the flattened kernel.
 */
export function layerTargets(lora: LoraModule, weight: LocatedTensor): Made {
  const { shape } = weight;
  const change = shape.length > 2 ? convolution(lora, shape) : linear(lora, shape);
  if (isFinding(change)) return change;
  const target = weightTarget(lora, weight, change);
  if (isFinding(target)) return target;
  const bias = loraBias(lora, change);
  if (bias === null) return [target];
  return isFinding(bias) ? bias : [target, bias];
}

function linear(lora: LoraModule, shape: readonly number[]): Change | ReturnType<typeof finding> {
  const { input, config, module, parts } = lora;
  const { variant } = config;
  const stored = isConv1D(input.model.modelType, module);
  const [out, width] = (stored ? [...shape].reverse() : shape) as [number, number];
  const rank = parts.get("lora_A.weight")?.shape[0] ?? 0;
  const blocks = blocksOf(lora);
  if (isFinding(blocks)) return blocks;
  const a = required(lora, "lora_A.weight", [rank, width / blocks.a]);
  const b = required(lora, "lora_B.weight", [out, rank / blocks.b]);
  if (isFinding(a)) return a;
  if (isFinding(b)) return b;
  const scaling = scalingOf(config, module, rank);
  if (isFinding(scaling)) return scaling;
  const left = kasaLeft(lora, widened(lora, b, blocks.b), rank);
  if ("code" in left) return left;
  const right = widened(lora, a, blocks.a);
  const roundFirst = ["mica", "kasa", "bdlora"].includes(variant.kind) || ONE_EXPERT.test(`${module}.`);
  return stored
    ? { ...scaling, left: transpose(right), right: transpose(left), roundFirst, lines: "columns" }
    : { ...scaling, left, right, roundFirst, lines: "rows" };
}

/** BD-LoRA: how many diagonal blocks each factor has; PEFT looks for parts of the module's name. */
function blocksOf({ config: { variant }, module, parts }: LoraModule) {
  if (variant.kind !== "bdlora") return { a: 1, b: 1 };
  const a = variant.a.some((part) => module.includes(part));
  const b = variant.b.some((part) => module.includes(part));
  const { blocks } = variant;
  const rank = parts.get("lora_A.weight")?.shape[0] ?? 0;
  if (a && b) {
    return finding(
      "BAD_ADAPTER_CONFIG",
      module,
      " is named by both target_modules_bd_a and target_modules_bd_b of use_bdlora, which PEFT does not take",
    );
  }
  if ((a || b) && rank % blocks !== 0) {
    return finding(
      "SHAPE_MISMATCH",
      module,
      `: rank ${rank} does not divide into the ${blocks} blocks of use_bdlora`,
    );
  }
  return { a: a ? blocks : 1, b: b ? blocks : 1 };
}

function widened({ input }: LoraModule, factor: TensorFacts, blocks: number): Expr {
  const stored = read(input, factor);
  return blocks === 1 ? stored : call("block-diagonal", [stored], { blocks });
}

/** KaSA: B with its columns scaled by the trained singular values, `B·diag(d)`. */
function kasaLeft(lora: LoraModule, b: Expr, rank: number) {
  if (lora.config.variant.kind !== "kasa") return b;
  const diagonal = required(lora, "lora_diag", [rank]);
  return isFinding(diagonal) ? diagonal : mul(b, reshape(read(lora.input, diagonal), [1, rank]));
}

function convolution(lora: LoraModule, shape: readonly number[]): Change | ReturnType<typeof finding> {
  const { input, config, module, parts } = lora;
  const [out, ...read1] = shape as [number, ...number[]];
  const [channels, ...kernel] = read1 as [number, ...number[]];
  const given = parts.get("lora_A.weight");
  const rank = given?.shape[0] ?? 0;
  const { kind } = config.variant;
  if (kind !== "plain" && kind !== "dora") {
    return finding(
      "UNSUPPORTED_VARIANT",
      module,
      ` is a convolution, for which PEFT has no ${kind}: its arithmetic would be a guess. Check that the base is the one the adapter was trained on`,
    );
  }
  const groups = (given?.shape[1] ?? 0) / channels;
  if (groups > 1 && Number.isInteger(groups) && given?.shape.slice(2).join() === kernel.join()) {
    return finding(
      "UNSUPPORTED_VARIANT",
      module,
      ` is a convolution in ${groups} groups, which PEFT cannot merge either: serve the adapter beside the base`,
    );
  }
  const a = required(lora, "lora_A.weight", [rank, ...read1]);
  const b = required(lora, "lora_B.weight", [out, rank, ...kernel.map(() => 1)]);
  if (isFinding(a)) return a;
  if (isFinding(b)) return b;
  const scaling = scalingOf(config, module, rank);
  if (isFinding(scaling)) return scaling;
  const left = reshape(read(input, b), [out, rank]);
  const right = reshape(read(input, a), [rank, elementCount(read1)]);
  return { ...scaling, left, right, roundFirst: false, lines: "rows" };
}

/**
 * LoRA on an embedding: `W' = W + round(s·(B·A)ᵀ)` with A `lora_embedding_A` (r×tokens) and B `lora_embedding_B` (dim×r);
 * PEFT rounds the change to the base's type first.
 */
export function embeddingTargets(lora: LoraModule, weight: LocatedTensor): Made {
  const { input, config, module, parts } = lora;
  const { shape } = weight;
  const { kind } = config.variant;
  if (!["plain", "dora", "mica"].includes(kind) || config.loraBias) {
    return finding(
      "UNSUPPORTED_VARIANT",
      module,
      ` is an embedding, for which PEFT has no ${config.loraBias ? "lora_bias" : kind}: its arithmetic would be a guess`,
    );
  }
  const [tokens, dim] = shape as [number, number];
  const rank = parts.get("lora_embedding_A")?.shape[0] ?? 0;
  const a = required(lora, "lora_embedding_A", [rank, tokens]);
  const b = required(lora, "lora_embedding_B", [dim, rank]);
  if (isFinding(a)) return a;
  if (isFinding(b)) return b;
  const scaling = scalingOf(config, module, rank);
  if (isFinding(scaling)) return scaling;
  const target = weightTarget(lora, weight, {
    ...scaling,
    left: transpose(read(input, a)),
    right: transpose(read(input, b)),
    roundFirst: true,
    lines: "columns",
  });
  return isFinding(target) ? target : [target];
}

function weightTarget(
  lora: LoraModule,
  weight: LocatedTensor,
  change: Change,
): AdapterTarget | ReturnType<typeof finding> {
  const { module, config } = lora;
  const expr = changed(lora, weight, change);
  if ("code" in expr) return expr;
  return {
    tensor: weight.name,
    module,
    change: NAMES[config.variant.kind],
    rank: change.rank,
    alpha: change.alpha,
    scale: change.scale,
    expr,
  };
}

const NAMES = {
  plain: "LoRA",
  dora: "DoRA",
  mica: "MiCA",
  kasa: "KaSA",
  bdlora: "BD-LoRA",
  velora: "VeLoRA",
  monteclora: "MonteCLoRA",
} as const;

function changed(lora: LoraModule, weight: LocatedTensor, change: Change): Expr | ReturnType<typeof finding> {
  const { left, right, roundFirst } = change;
  const { shape } = weight;
  const start = base(weight.name);
  if (lora.config.variant.kind === "dora") return doraChanged(lora, start, { ...change, shape });
  if (lora.config.variant.kind === "kasa") return kasaChanged(lora, start, { ...change, shape });
  if (shape.length === 2) {
    return lowRankUpdate({ base: weight.name, left, right, scale: change.scale, roundFirst });
  }
  return add(start, reshape(scale(change.scale, matmul(left, right)), shape));
}

type Shaped = Change & { readonly shape: readonly number[] };

function doraChanged(lora: LoraModule, start: Expr, change: Shaped) {
  const { lines, shape } = change;
  const [rows, ...rest] = shape as [number, ...number[]];
  const matrix = [rows, elementCount(rest)] as const;
  const length = lines === "rows" ? rows : matrix[1];
  const part = lora.parts.has("lora_magnitude_vector.weight")
    ? "lora_magnitude_vector.weight"
    : "lora_magnitude_vector";
  // PEFT keeps the magnitudes of a convolution in the shape of its output.
  const wanted = shape.length === 2 ? [length] : [1, rows, ...shape.slice(2).map(() => 1)];
  const magnitude = required(lora, part, wanted);
  if (isFinding(magnitude)) return magnitude;
  const whole = shape.length === 2 ? start : reshape(start, matrix);
  const total = add(whole, scale(change.scale, matmul(change.left, change.right)));
  const scaled = doraScaled(total, read(lora.input, magnitude), { lines, length });
  return shape.length === 2 ? scaled : reshape(scaled, shape);
}

/** KaSA first drops the r smallest singular values of the base, which training had replaced by its own. */
function kasaChanged({ module }: LoraModule, start: Expr, { shape, rank, ...change }: Shaped) {
  const side = Math.min(...shape);
  if (rank >= side) {
    return finding(
      "SHAPE_MISMATCH",
      module,
      `: KaSA drops ${rank} singular values, and a [${shape}] weight has only ${side}`,
    );
  }
  if (side > MAX_TRUNCATED_SIDE) {
    return finding(
      "UNSUPPORTED_VARIANT",
      module,
      `: KaSA needs the singular values of the base weight [${shape}], which takes too long here above a side of ${MAX_TRUNCATED_SIDE}. Merge it with PEFT and import the result`,
    );
  }
  const kept = round(call("without-smallest", [start], { count: rank }));
  return add(kept, round(scale(change.scale, matmul(change.left, change.right))));
}

/** `lora_bias`: `b' = b + s·lora_B.bias`. */
function loraBias(
  lora: LoraModule,
  { rank, alpha, scale: by }: Scaling,
): AdapterTarget | ReturnType<typeof finding> | null {
  const { input, config, module } = lora;
  if (!config.loraBias) return null;
  const bias = findTensor(input, module, "bias");
  if (!bias) {
    return finding(
      "NO_BASE_BIAS",
      module,
      " has a lora_B.bias in the adapter (lora_bias), but no bias in the base: PEFT cannot merge it either. Train without lora_bias",
    );
  }
  const change = required(lora, "lora_B.bias", bias.shape);
  if (isFinding(change)) return change;
  const expr = add(base(bias.name), scale(by, read(input, change)));
  return { tensor: bias.name, module, change: "bias", rank, alpha, scale: by, expr };
}
