import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type LocatedTensor, tensorsByName } from "../../src/core/checkpoint.ts";
import { widen } from "../../src/core/dtype.ts";
import type { NdArray, TensorLookup } from "../../src/core/evaluate.ts";
import type { Leaf } from "../../src/core/expr.ts";
import type { Digest } from "../../src/core/identity.ts";
import { planMerge, requireRunnable } from "../../src/core/plan.ts";
import type { MergeChoices } from "../../src/core/recipe.ts";
import type { Located } from "../../src/engine/events.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";

/** Adapters written by PEFT. */
export const CASES = join(import.meta.dirname, "../fixtures/merge");

interface Case {
  readonly base: string;
  readonly adapter: string;
  readonly peft_type: string;
  readonly want: { readonly verdict: "equal" | "close" | "refuse" | "differs-on-purpose" };
}

const readCase = (name: string): Case => JSON.parse(readFileSync(join(CASES, name, "case.json"), "utf8"));

const NAMES = readdirSync(CASES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const verdictOf = (name: string) => readCase(name).want.verdict;

/** Cases that are merged, not refused. */
export const MERGED_CASES: readonly string[] = NAMES.filter((name) => verdictOf(name) !== "refuse");
/** Of these, the ones whose merge is known byte for byte. */
export const EQUAL_CASES: readonly string[] = MERGED_CASES.filter((name) => verdictOf(name) !== "close");

/** A folder with the digests of its tensors, which a plan of tied embeddings compares. */
export async function located(folder: string): Promise<Located> {
  const found = await readModelFolder(folder, { roots: null });
  const files = await Promise.all(
    found.facts.weights.map(async (file) => {
      const bytes = await readFile(join(found.folder, file.path));
      const tensors = file.tensors.map((tensor) => {
        const hash = createHash("sha256").update(bytes.subarray(tensor.begin, tensor.end));
        return { ...tensor, digest: `sha256:${hash.digest("hex")}` as Digest };
      });
      return { ...file, tensors };
    }),
  );
  return { folder: found.folder, facts: { ...found.facts, weights: files } };
}

/** Base, adapter and plan of a case, which must be one that is not refused. */
export async function planCase(name: string, choices: Partial<MergeChoices> = {}) {
  const { base, adapter, peft_type: peftType } = readCase(name);
  const [model, source] = await Promise.all([
    located(join(CASES, name, base)),
    located(join(CASES, name, adapter)),
  ]);
  const plan = planMerge({
    base: { facts: model.facts, label: "base" },
    sources: [{ facts: source.facts, label: name }],
    choices: { weights: [1], tokenizer: null, ...choices },
  });
  requireRunnable(plan);
  return { base: model, adapter: source, plan, peftType };
}

/** All tensors of a base and its adapters, widened; sources are numbered as they are listed. */
export async function lookupOf(base: Located, sources: readonly Located[]): Promise<TensorLookup> {
  const [own, ...others] = await Promise.all([base, ...sources].map(tensorsOf));
  return { whole: (leaf: Leaf) => (leaf.op === "base" ? own! : others[leaf.source]!)(leaf.tensor) };
}

async function tensorsOf({ folder, facts }: Located): Promise<(name: string) => NdArray> {
  const tensors = tensorsByName(facts.weights);
  const files = new Map<string, Buffer>();
  for (const { path } of facts.weights) files.set(path, await readFile(join(folder, path)));
  const known = new Map<string, NdArray>();
  const read = ({ file, begin, end, dtype, shape }: LocatedTensor): NdArray => ({
    shape,
    values: widen(dtype, files.get(file)!.subarray(begin, end)),
  });
  return (name) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`no tensor ${name} in ${folder}`);
    if (!known.has(name)) known.set(name, read(tensor));
    return known.get(name)!;
  };
}

/** Largest absolute difference, as a share of the largest absolute value. */
export function relativeDifference(actual: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (actual.length !== wanted.length) throw new Error(`${actual.length} values instead of ${wanted.length}`);
  let [off, most] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    off = Math.max(off, Math.abs(actual[i]! - wanted[i]!));
    most = Math.max(most, Math.abs(wanted[i]!));
  }
  return most === 0 ? off : off / most;
}
