import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { type Expr, source } from "../expr.ts";
import type { AdapterInput } from "./index.ts";

/** The adapter tensors of one module, by the end of their keys, such as `lora_A.weight` or `ia3_l`. */
export type Parts = ReadonlyMap<string, TensorFacts>;

export interface Grouped {
  /** By the module's name in memory, in the order of the file. */
  readonly modules: ReadonlyMap<string, Parts>;
  /** Tensors whose key does not end in any of the parts, by their key without PEFT's prefix. */
  readonly others: ReadonlyMap<string, TensorFacts>;
  /** Tensors whose key lacks PEFT's prefix, or has it twice. */
  readonly odd: number;
}

/**
 * Sorts adapter tensors by module. Key grammar: `base_model.model.<module>.<part>`; PEFT puts the adapter's name
 * before `.weight` or at the end while it is in memory, and files that kept `.default` are read as well.
 * @param part matches the end of a key, from after the dot
 */
export function groupByModule(input: Pick<AdapterInput, "tensors" | "base">, part: RegExp): Grouped {
  const modules = new Map<string, Map<string, TensorFacts>>();
  const others = new Map<string, TensorFacts>();
  const pattern = new RegExp(`^(.+?)\\.(${part.source})$`);
  let odd = 0;
  for (const tensor of input.tensors) {
    const key = tensor.name.replace(/\.default(\.weight|\.bias)?$/, "$1");
    const match = pattern.exec(key);
    if (!match) {
      others.set(withoutPrefix(key), tensor);
      continue;
    }
    const [, path, name] = match as unknown as [string, string, string];
    const module = moduleOf(path, input.base);
    if (path !== `base_model.model.${module}`) odd++;
    const parts = modules.get(module) ?? new Map<string, TensorFacts>();
    parts.set(name, tensor);
    modules.set(module, parts);
  }
  return { modules, others, odd };
}

/** PEFT's own reading of a path: its prefix off, however often it was put on. */
export function withoutPrefix(path: string): string {
  return path.replace(/^(base_model\.model\.)+/, "").replace(/^base_model\.(?=[a-z_]*$)/, "");
}

/**
 * The module that a key's path means. `base_model.` alone is also seen as a prefix, and then the `model.` after it is
 * the module's own: the reading that the base has a weight for is taken, PEFT's own reading first.
 */
export function moduleOf(path: string, base: AdapterInput["base"]): string {
  const usual = withoutPrefix(path);
  const readings = [usual, path.replace(/^base_model\./, "")];
  return readings.find((module) => findTensor({ base }, module) !== null) ?? usual;
}

/**
 * The base tensor of a module: `<module>.weight`, or its bias. Module names are those in memory; checkpoints may use
 * others.
 */
export function findTensor(
  { base }: Pick<AdapterInput, "base">,
  module: string,
  leaf = "weight",
): LocatedTensor | null {
  return base.get(`${module}.${leaf}`) ?? null;
}

/** An adapter tensor as an expression. */
export function read(input: Pick<AdapterInput, "source">, tensor: TensorFacts): Expr {
  return source(input.source, tensor.name);
}
