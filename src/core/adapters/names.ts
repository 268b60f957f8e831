import type { LocatedTensor } from "../checkpoint.ts";
import type { AdapterInput } from "./index.ts";
import { renamesOf } from "./renames.ts";

/** What names are looked up in: the base's tensors and the model type that tells how they are renamed in memory. */
export type Named = Pick<AdapterInput, "base" | "model">;

/** How an adapter's names relate to those of the checkpoint. */
export interface Reading {
  /** Names as the checkpoint has them, or as transformers 5 has them in memory. */
  readonly system: "stored" | "memory";
  /** First component that the adapter's names have and the base's lack. */
  readonly extra: string | null;
  /** First component that the base's names have and the adapter's lack. */
  readonly lacking: string | null;
}

export interface Found {
  readonly tensor: LocatedTensor;
  readonly reading: Reading;
}

interface Names {
  readonly stored: ReadonlyMap<string, readonly LocatedTensor[]>;
  readonly memory: ReadonlyMap<string, readonly LocatedTensor[]>;
  readonly rename: (name: string) => string;
  /** First components of names, and how many names have each. */
  readonly firsts: ReadonlyMap<string, number>;
}

const known = new WeakMap<Named["base"], { modelType: string | null; names: Names }>();

function namesOf({ base, model }: Named): Names {
  const before = known.get(base);
  if (before && before.modelType === model.modelType) return before.names;
  const rename = renamesOf(model.modelType);
  const stored = new Map<string, LocatedTensor[]>();
  const memory = new Map<string, LocatedTensor[]>();
  const firsts = new Map<string, number>();
  for (const tensor of base.values()) {
    stored.set(tensor.name, [tensor]);
    const inMemory = rename(tensor.name);
    memory.set(inMemory, [...(memory.get(inMemory) ?? []), tensor]);
    const firstsOf = new Set([firstOf(tensor.name), firstOf(inMemory)]);
    for (const first of firstsOf) firsts.set(first, (firsts.get(first) ?? 0) + 1);
  }
  const names = { stored, memory, rename, firsts };
  known.set(base, { modelType: model.modelType, names });
  return names;
}

const firstOf = (name: string) => name.slice(0, Math.max(0, name.indexOf(".")));

/** PEFT wraps a module and puts the original one level down, for each wrapper once more. */
export const withoutWrappers = (name: string) => name.replace(/\.base_layer(?=\.|$)/g, "");

/**
 * Every base tensor that a name in memory can mean; more than one is an ambiguity. Tried in this order, the first that
 * finds something counts: the name as it is, the renames of transformers 5 (families of models, in `renames.ts`),
 * and both again with a base-model prefix such as `model.` or `bert.` taken off or put on.
 * @param name of a tensor, e.g. `model.layers.0.mlp.up_proj.weight`
 */
export function candidates(input: Named, name: string): Found[] {
  const names = namesOf(input);
  const plain = withoutWrappers(name);
  const asIs = { extra: null, lacking: null };
  for (const system of ["stored", "memory"] as const) {
    const found = lookUp(names, { system, ...asIs }, plain);
    if (found.length > 0) return found;
  }
  const found = new Map<string, Found>();
  for (const reading of shifts(names, plain)) {
    for (const one of lookUp(names, reading, shifted(plain, reading)))
      if (!found.has(one.tensor.name)) found.set(one.tensor.name, one);
  }
  return [...found.values()];
}

/** Adapters that were trained on the stored names find a base that was saved with the names in memory, too. */
function lookUp(names: Names, reading: Reading, name: string): Found[] {
  const map = names[reading.system];
  const tensors = map.get(name) ?? (reading.system === "memory" ? map.get(names.rename(name)) : undefined);
  return (tensors ?? []).map((tensor) => ({ tensor, reading }));
}

/** The base-model prefix (transformers' `base_model_prefix`) that one side has and the other lacks. */
function shifts({ firsts, stored }: Names, name: string): Reading[] {
  const first = firstOf(name);
  const prefixes: { extra: string | null; lacking: string | null }[] = [];
  if (first !== "" && !firsts.has(first)) prefixes.push({ extra: first, lacking: null });
  for (const [prefix, count] of firsts) {
    if (prefix !== "" && prefix !== first && count * 2 > stored.size)
      prefixes.push({ extra: null, lacking: prefix });
  }
  return prefixes.flatMap((prefix) => [
    { system: "stored" as const, ...prefix },
    { system: "memory" as const, ...prefix },
  ]);
}

function shifted(name: string, { extra, lacking }: Reading): string {
  return extra === null ? `${lacking}.${name}` : name.slice(extra.length + 1);
}

/** The name that a base tensor has for an adapter that is read this way: the reverse of `candidates`. */
export function nameFor(input: Named, tensor: string, { system, extra, lacking }: Reading): string {
  const name = system === "stored" ? tensor : namesOf(input).rename(tensor);
  if (extra !== null) return `${extra}.${name}`;
  return lacking !== null && name.startsWith(`${lacking}.`) ? name.slice(lacking.length + 1) : name;
}
