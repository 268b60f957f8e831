import { type AdapterInput, type ParsedAdapter, parseAdapter } from "../../src/core/adapters/index.ts";
import { readModelFacts } from "../../src/core/arch.ts";
import type { LocatedTensor } from "../../src/core/checkpoint.ts";
import type { Dtype, MergeableDtype } from "../../src/core/dtype.ts";
import type { Arithmetic, NdArray, TensorLookup } from "../../src/core/evaluate.ts";
import { evaluate } from "../../src/core/evaluate.ts";
import { digestJson } from "../../src/core/identity.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { canonical, exact } from "../../src/core/numerics.ts";

/** Rows of numbers, at any depth: a tensor by its values. */
export type Nested = readonly (number | Nested)[];

/** Values, or an object where the dtype matters. */
export type Given = Nested | { readonly dtype: Dtype; readonly values: Nested };

/** A base and an adapter by their values, of F32 unless something else is said. */
export interface Example {
  /** By the whole name. */
  readonly base: Readonly<Record<string, Given>>;
  /** By the key after `base_model.model.`, or the whole key where it starts with `base_model.`. */
  readonly adapter: Readonly<Record<string, Given>>;
  readonly config: JsonObject;
  /** config.json of the base; default a Llama without tied embeddings. */
  readonly model?: JsonObject;
  /** Default "preserve". */
  readonly ties?: AdapterInput["ties"];
}

export interface Merged extends ParsedAdapter {
  /** Values of an output tensor, flat; by default in float64. */
  value(tensor: string, arithmetic?: Arithmetic): number[];
  /** Values in PEFT's float32 steps for an output of this type. */
  stored(tensor: string, dtype: MergeableDtype): number[];
  readonly lookup: TensorLookup;
  readonly input: AdapterInput;
}

/** Reads an example as the plan would, and computes what it asks for with the slow interpreter. */
export function merge(example: Example): Merged {
  const base = tensorsOf(example.base, (name) => name);
  const adapter = tensorsOf(example.adapter, (key) =>
    key.startsWith("base_model.") ? key : `base_model.model.${key}`,
  );
  const config = example.model ?? { model_type: "llama", architectures: ["LlamaForCausalLM"] };
  const input: AdapterInput = {
    config: example.config,
    tensors: [...adapter.values()].map(({ tensor }) => tensor),
    base: new Map([...base].map(([name, { tensor }]) => [name, tensor])),
    model: readModelFacts(config),
    baseConfig: config,
    source: 0,
    ties: example.ties ?? "preserve",
  };
  const lookup: TensorLookup = {
    whole: (leaf) => (leaf.op === "base" ? base : adapter).get(leaf.tensor)!.array,
  };
  const parsed = parseAdapter(input);
  const value = (tensor: string, arithmetic: Arithmetic = exact) => {
    const target = parsed.targets.find((one) => one.tensor === tensor);
    if (!target) throw new Error(`${tensor} is not changed: ${JSON.stringify(parsed.problems)}`);
    return [...evaluate(target.expr, lookup, arithmetic).values];
  };
  const stored = (tensor: string, dtype: MergeableDtype) => {
    const arithmetic = canonical(dtype);
    return value(tensor, arithmetic).map((number) => arithmetic.store(number));
  };
  return { ...parsed, lookup, value, stored, input };
}

/** Codes of an example's refusals, each one once. */
export function refusals(example: Example): string[] {
  return [...new Set(merge(example).problems.map(({ code }) => code))];
}

function tensorsOf(given: Readonly<Record<string, Given>>, nameOf: (key: string) => string) {
  const found = new Map<string, { tensor: LocatedTensor; array: NdArray }>();
  for (const [key, one] of Object.entries(given)) {
    const { dtype, values } = isNested(one) ? { dtype: "F32" as const, values: one } : one;
    const array = { shape: shapeOf(values), values: Float64Array.from(flat(values)) };
    const name = nameOf(key);
    const end = array.values.length * 4;
    const digest = digestJson({ dtype, values });
    const tensor = { name, dtype, shape: array.shape, begin: 0, end, file: "model.safetensors", digest };
    found.set(name, { tensor, array });
  }
  return found;
}

const isNested = (given: Given): given is Nested => Array.isArray(given);

function shapeOf(values: Nested): number[] {
  const [first] = values;
  return [values.length, ...(typeof first === "object" ? shapeOf(first) : [])];
}

function flat(values: Nested): number[] {
  return values.flatMap((value) => (typeof value === "number" ? [value] : flat(value)));
}
