import type { AdapterTarget } from "./adapters/index.ts";
import type { LocatedTensor } from "./checkpoint.ts";
import { isMergeable, type MergeableDtype } from "./dtype.ts";
import type { Finding } from "./errors.ts";
import { base as baseLeaf, call, div, type Expr, kron, mapLeaves, mul, reshape, slice } from "./expr.ts";
import { type Float8Dtype, isFloat8 } from "./float8.ts";
import { FLOAT8_CODES, SCALE_CODES } from "./functions-float8.ts";
import { isJsonObject, isUnset, type Json, type JsonObject } from "./json.ts";

type Tensors = ReadonlyMap<string, LocatedTensor>;

/** What a base in 8-bit floats makes of a merge. */
export interface Float8Plan {
  readonly targets: readonly AdapterTarget[];
  /** Scales that a dequantised output does not have. */
  readonly dropped: ReadonlySet<string>;
  /** Fields of config.json: null removes one. */
  readonly config: Readonly<Record<string, Json>>;
  readonly problems: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/** Quantisation methods whose 8-bit floats are understood: transformers' own, and vLLM's compressed-tensors. */
export const FLOAT8_METHODS = new Set(["fp8", "compressed-tensors"]);

interface Scales {
  readonly tensor: LocatedTensor;
  /** Elements of a block that share one scale. */
  readonly high: number;
  readonly wide: number;
  /** Blocks below one another, and side by side. */
  readonly blocks: readonly [down: number, across: number];
  /** Of the weight. */
  readonly shape: readonly [rows: number, columns: number];
}

/**
 * Merges into weights that are stored as 8-bit floats with scales. What an adapter changes is dequantised (one
 * float32 product), changed, and quantised again in the same layout with new scales; with a dtype for the output
 * every such weight is dequantised into it, and scales and quantization_config go.
 */
export function planFloat8(
  targets: readonly AdapterTarget[],
  base: Tensors,
  { config, dtype }: { readonly config: JsonObject; readonly dtype: MergeableDtype | null },
): Float8Plan {
  const weights = [...base.values()].filter((tensor) => isFloat8(tensor.dtype));
  const none = { targets, dropped: new Set<string>(), config: {}, problems: [], warnings: [] };
  if (weights.length === 0) return none;
  const problems: Finding[] = [];
  const scales = new Map<string, Scales | null>();
  for (const weight of weights) {
    const found = scalesOf(weight, base, config);
    if (found && "code" in found) problems.push(found);
    else scales.set(weight.name, found);
  }
  if (problems.length > 0) return { ...none, problems };
  const dequantised = (expr: Expr) =>
    mapLeaves(expr, (leaf) => {
      if (leaf.op !== "base" || !scales.has(leaf.tensor)) return leaf;
      return dequantise(leaf, scales.get(leaf.tensor)!);
    });
  const plain = targets.map((target) => ({ ...target, expr: dequantised(target.expr) }));
  return dtype === null
    ? requantised(plain, { base, scales })
    : unpacked(plain, { base, scales, dtype, weights, config });
}

/** q · s, the scale of each block spread over its elements: one float32 product. */
function dequantise(leaf: Expr, scales: Scales | null): Expr {
  return scales ? mul(leaf, spread(baseLeaf(scales.tensor.name), scales)) : leaf;
}

function spread(scale: Expr, { blocks, high, wide, shape }: Scales): Expr {
  const [rows, columns] = shape;
  const [down, across] = blocks;
  const matrix = reshape(scale, [down, across]);
  // One scale, and one a row, stretch by themselves.
  if (across === 1 && (down === 1 || high === 1)) return matrix;
  const all = kron(matrix, call("ones", [], { rows: high, columns: wide }));
  const wideEnough = across * wide === columns ? all : slice(all, 1, 0, columns);
  return down * high === rows ? wideEnough : slice(wideEnough, 0, 0, rows);
}

interface Known {
  readonly base: Tensors;
  readonly scales: ReadonlyMap<string, Scales | null>;
}

function requantised(targets: readonly AdapterTarget[], { base, scales }: Known): Float8Plan {
  const out: AdapterTarget[] = [];
  for (const target of targets) {
    const weight = base.get(target.tensor);
    const found = scales.get(target.tensor);
    if (!weight || found === undefined) {
      out.push(target);
      continue;
    }
    const dtype = FLOAT8_CODES[weight.dtype as Float8Dtype];
    const rounded = (expr: Expr) => ({ ...target, expr: call("float8-round", [expr], { dtype }) });
    if (found === null) {
      out.push(rounded(target.expr));
      continue;
    }
    const { tensor, high, wide, blocks } = found;
    const fresh = call("float8-scales", [target.expr], {
      high,
      wide,
      rows: blocks[0],
      columns: blocks[1],
      rank: tensor.shape.length,
      dtype,
      scaleDtype: SCALE_CODES[tensor.dtype as MergeableDtype],
    });
    out.push(rounded(div(target.expr, spread(fresh, found))));
    out.push({ ...target, tensor: tensor.name, change: "new scales", expr: fresh });
  }
  const warning: Finding = {
    code: "REQUANTISED",
    subject: "dtype",
    message:
      "the base is stored in 8-bit floats: what the adapter changes is dequantised, changed and rounded to 8 bits again, which adds noise of a few per cent to these weights. Choose dtype BF16 to keep the change as it is.",
  };
  const requantises = targets.some(({ tensor }) => scales.has(tensor));
  return {
    targets: out,
    dropped: new Set(),
    config: {},
    problems: [],
    warnings: requantises ? [warning] : [],
  };
}

interface Unpacking {
  readonly dtype: MergeableDtype;
  readonly weights: readonly LocatedTensor[];
  readonly config: JsonObject;
}

function unpacked(
  targets: readonly AdapterTarget[],
  { base, scales, dtype, weights, config }: Known & Unpacking,
): Float8Plan {
  const changed = new Map(targets.map((target) => [target.tensor, target]));
  const others = weights
    .filter(({ name }) => !changed.has(name))
    .map(
      ({ name }): AdapterTarget => ({
        tensor: name,
        module: name.replace(/\.weight$/, ""),
        change: "dequantised",
        rank: null,
        alpha: null,
        scale: null,
        expr: dequantise(baseLeaf(name), scales.get(name)!),
        dtype,
      }),
    );
  const dropped = new Set(
    [...base.keys()].filter((name) => /\.(weight_scale(_inv)?|input_scale)$/.test(name)),
  );
  const own = targets.map((target) => (scales.has(target.tensor) ? { ...target, dtype } : target));
  return {
    targets: [...own, ...others],
    dropped,
    // transformers reads null as "not quantised".
    config: Object.fromEntries(
      ["quantization_config", "compression_config"].flatMap((name) =>
        isUnset(config[name]) ? [] : [[name, null]],
      ),
    ),
    problems: [],
    warnings: [],
  };
}

/** The scales of a weight, by the names and shapes that transformers and compressed-tensors write. */
function scalesOf(weight: LocatedTensor, base: Tensors, config: JsonObject): Scales | null | Finding {
  const stem = weight.name.replace(/\.weight$/, "");
  const tensor = base.get(`${stem}.weight_scale_inv`) ?? base.get(`${stem}.weight_scale`);
  const say = (message: string): Finding => ({
    code: "UNSUPPORTED_QUANTISATION",
    subject: weight.name,
    message,
  });
  if (weight.shape.length !== 2) {
    return say(
      `tensor "${weight.name}" is ${weight.dtype} [${weight.shape}]: only matrices of 8-bit floats are understood.`,
    );
  }
  const [rows, columns] = weight.shape as [number, number];
  if (!tensor) return null;
  if (!isMergeable(tensor.dtype)) {
    return say(
      `the scales "${tensor.name}" are ${tensor.dtype}: only F32, BF16 and F16 scales are understood.`,
    );
  }
  const count = tensor.shape.reduce((product, dim) => product * dim, 1);
  const shape = [rows, columns] as const;
  if (count === 1) return { tensor, high: rows, wide: columns, blocks: [1, 1], shape };
  if (tensor.shape[0] === rows && count === rows)
    return { tensor, high: 1, wide: columns, blocks: [rows, 1], shape };
  const [high, wide] = blockSize(config);
  const fits =
    tensor.shape.length === 2 &&
    tensor.shape[0] === Math.ceil(rows / high) &&
    tensor.shape[1] === Math.ceil(columns / wide);
  if (fits) return { tensor, high, wide, blocks: tensor.shape as [number, number], shape };
  return say(
    `the scales "${tensor.name}" [${tensor.shape}] fit "${weight.name}" [${weight.shape}] neither as one, nor one a row, nor one for each block of ${high}×${wide} (weight_block_size). Dequantise the base first.`,
  );
}

function blockSize(config: JsonObject): [number, number] {
  const quantization = config.quantization_config;
  const size = isJsonObject(quantization) ? quantization.weight_block_size : undefined;
  if (Array.isArray(size) && size.length === 2 && size.every((n) => Number.isSafeInteger(n) && n > 0)) {
    return size as [number, number];
  }
  return [128, 128];
}
