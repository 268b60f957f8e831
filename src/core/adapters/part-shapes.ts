import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { type Dtype, isMergeable } from "../dtype.ts";
import type { Finding } from "../errors.ts";
import type { Parts } from "./parts.ts";

/** What a kind wants of one of a module's tensors. */
export interface PartRule {
  /** Sizes: numbers, or symbols that mean the same size wherever they stand; `out` and `in` are the weight's. */
  readonly shape: readonly (number | string)[];
  /** The module may lack it. */
  readonly optional?: true;
  /** Holds whole numbers, in an integer type or in F32. */
  readonly whole?: true;
  /** Has no part in the merge, on purpose. */
  readonly unread?: true;
}

/** Sizes by symbol. */
export type Dims = Readonly<Record<string, number>>;

export function missing(module: string, part: string): Finding {
  return {
    code: "MISSING_TENSOR",
    subject: module,
    message: `module ${module} has no ${part} in the adapter file: the file is incomplete, save it again.`,
  };
}

const WHOLE: ReadonlySet<Dtype> = new Set(["I64", "I32", "I16", "I8", "U8", "F32"]);

export interface Binding {
  readonly module: string;
  readonly parts: Parts;
  readonly rules: Readonly<Record<string, PartRule>>;
  readonly weight: LocatedTensor;
  /** What is known before: `out` and `in`. */
  readonly sizes: Dims;
}

/** Checks that a module's tensors are there, with their dtypes and shapes, and finds what the symbols stand for. */
export function bindShapes(binding: Binding): { sizes: Dims } | Finding {
  const { module, parts, rules } = binding;
  const sizes: Record<string, number> = { ...binding.sizes };
  for (const [part, rule] of Object.entries(rules)) {
    const tensor = parts.get(part);
    if (!tensor && !rule.optional) return missing(module, part);
    if (!tensor) continue;
    const right = rule.whole ? WHOLE.has(tensor.dtype) : isMergeable(tensor.dtype);
    if (!right) return wrongType(tensor, rule);
    if (!bind(rule.shape, tensor.shape, sizes)) return mismatch({ ...binding, sizes });
  }
  return { sizes };
}

function bind(wanted: PartRule["shape"], found: readonly number[], sizes: Record<string, number>): boolean {
  return (
    wanted.length === found.length &&
    wanted.every((size, i) => {
      if (typeof size === "number") return size === found[i];
      // Only the weight itself may be empty.
      if (sizes[size] === undefined && found[i] === 0) return false;
      sizes[size] ??= found[i]!;
      return sizes[size] === found[i];
    })
  );
}

function wrongType({ name, dtype }: TensorFacts, { whole }: PartRule): Finding {
  const wanted = whole ? "an integer type or F32" : "F32, F16 or BF16";
  return {
    code: "UNSUPPORTED_DTYPE",
    subject: name,
    message: `adapter tensor "${name}" is ${dtype}: it must be ${wanted}.`,
  };
}

function mismatch({ module, parts, rules, weight, sizes }: Binding): Finding {
  const found = [...parts].map(([part, { shape }]) => `${part} [${shape}]`).join(", ");
  const wanted = Object.entries(rules)
    .filter(([part]) => parts.has(part))
    .map(([part, { shape }]) => `${part} [${shape}]`)
    .join(", ");
  const known = Object.entries(sizes)
    .map(([symbol, size]) => `${symbol} ${size}`)
    .join(", ");
  return shapeMismatch(
    module,
    `${found} with the base's [${weight.shape}] do not have the shapes ${wanted} (${known})`,
  );
}

/** The sentence goes without its full stop. */
export function shapeMismatch(module: string, sentence: string): Finding {
  return {
    code: "SHAPE_MISMATCH",
    subject: module,
    message: `module ${module}: ${sentence}. The adapter was trained on another base, or with another config: name that one.`,
  };
}

/** Where the config states another rank than the tensors have. */
export function rankMismatch(module: string, stated: number, rank: number): Finding {
  return {
    code: "RANK_MISMATCH",
    subject: module,
    message: `module ${module} has tensors of rank ${rank}, but adapter_config.json says ${stated} (r or rank_pattern): the change would be wrong. Restore the config that belongs to these weights.`,
  };
}
