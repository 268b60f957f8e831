import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import { type Expr, source } from "../expr.ts";
import { type AdapterInput, orphan } from "./index.ts";
import { candidates, type Named, withoutWrappers } from "./names.ts";

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
 * before `.weight` or at the end while it is in memory, and files that kept `.default` are read as well. Of two tensors
 * that mean the same part the first counts, and nothing uses the second. `targetProblems` in `targets.ts` compares the
 * groups with the config.
 * @param part matches the end of a key, from after the dot
 */
export function groupByModule(input: Pick<AdapterInput, "tensors"> & Named, part: RegExp): Grouped {
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
    const module = moduleOf(path, input);
    if (path !== `base_model.model.${module}`) odd++;
    const parts = modules.get(module) ?? new Map<string, TensorFacts>();
    if (!parts.has(name)) parts.set(name, tensor);
    modules.set(module, parts);
  }
  return { modules, others, odd };
}

/** What to warn of where keys lack PEFT's prefix. */
export function oddKeys({ odd }: Pick<Grouped, "odd">): Finding[] {
  if (odd === 0) return [];
  return [
    {
      code: "ODD_KEYS",
      message:
        `${odd} adapter tensors lack PEFT's prefix "base_model.model." or have another one; they were read by their ` +
        "module names. PEFT itself would ignore them without an error.",
    },
  ];
}

/** PEFT's own reading of a path: its prefix off, however often it was put on. */
export function withoutPrefix(path: string): string {
  return path.replace(/^(base_model\.model\.)+/, "").replace(/^base_model\.(?=[a-z_]*$)/, "");
}

/**
 * The module that a key's path means. `base_model.` alone is also seen as a prefix, and then the `model.` after it is
 * the module's own: the reading that names a weight of the base exactly is taken, then one that names it in another
 * way, PEFT's own reading first.
 */
export function moduleOf(path: string, input: Named): string {
  const usual = withoutPrefix(path);
  const readings = [usual, path.replace(/^base_model\./, "")];
  return (
    readings.find((module) => input.base.has(`${withoutWrappers(module)}.weight`)) ??
    readings.find((module) => findTensor(input, module) !== null) ??
    usual
  );
}

/**
 * The base tensor of a module: `<module>.weight`, or its bias. Module names are those in memory, and `base_layer`
 * levels are peeled; checkpoints may use other names: see `candidates`. `null` where nothing is found, or more than
 * one tensor: `absent` says which.
 */
export function findTensor(input: Named, module: string, leaf = "weight"): LocatedTensor | null {
  const found = candidates(input, `${module}.${leaf}`);
  return found.length === 1 ? found[0]!.tensor : null;
}

/** Why `findTensor` found nothing for the module of an adapter tensor. */
export function absent(input: Named, tensor: TensorFacts, module: string, leaf = "weight"): Finding {
  const names = candidates(input, `${module}.${leaf}`).map((found) => `"${found.tensor.name}"`);
  if (names.length < 2) return orphan(tensor.name, `the base has no tensor "${module}.${leaf}"`);
  return {
    code: "AMBIGUOUS_NAME",
    subject: tensor.name,
    message: `adapter tensor "${tensor.name}": module ${module} can mean ${names.join(" or ")} in the base. Rename the adapter's keys to the base's own names.`,
  };
}

/** An adapter tensor as an expression. */
export function read(input: Pick<AdapterInput, "source">, tensor: TensorFacts): Expr {
  return source(input.source, tensor.name);
}
