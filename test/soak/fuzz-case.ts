import { createHash } from "node:crypto";
import { copyFile, link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { summariseAdapter } from "../../src/core/adapters/summary.ts";
import { countParameters } from "../../src/core/arch.ts";
import { AppError } from "../../src/core/errors.ts";
import { planMerge } from "../../src/core/plan.ts";
import type { MergeChoices } from "../../src/core/recipe.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";
import { mutateBytes, mutatePickle } from "./mutate-bytes.ts";
import { mutateJson, mutateText } from "./mutate-json.ts";
import { mutateSafetensors } from "./mutate-safetensors.ts";
import { asMlx, asTorchFile } from "./other-formats.ts";
import { Random } from "./random.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");

export interface Corpus {
  readonly cases: readonly { readonly name: string; readonly base: string; readonly adapter: string }[];
  /** Texts of adapter configs, whose fields are put into others. */
  readonly donors: readonly string[];
}

/** Every golden case, with the base that it is merged into. */
export async function loadCorpus(): Promise<Corpus> {
  const root = join(FIXTURES, "merge");
  const names = (await readdir(root)).sort();
  const cases = await Promise.all(
    names.map(async (name) => {
      const about = JSON.parse(await readFile(join(root, name, "case.json"), "utf8"));
      return { name, base: join(root, name, about.base), adapter: join(root, name, about.adapter) };
    }),
  );
  const donors = await Promise.all(
    cases.map((one) => readFile(join(one.adapter, "adapter_config.json"), "utf8")),
  );
  return { cases, donors };
}

/** How a case ended, where it ended well: an AppError's or refusal's code, or that the output was written and checked. */
export type CaseOutcome =
  | { readonly kind: "error" | "refused"; readonly code: string }
  | { readonly kind: "planned" | "merged" };

export interface CaseRequest {
  readonly corpus: Corpus;
  readonly seed: number;
  readonly index: number;
  /** A folder that is emptied before and after. */
  readonly scratch: string;
  /** Digests of plans that were merged before: another merge of the same plan would show nothing new. */
  readonly merged: Set<string>;
  /** Plans that are merged at all; the rest is planned only. */
  readonly maxMerges: number;
}

/**
 * One adapter and one base with something wrong in one of their files, read, planned and, where the plan is runnable,
 * merged. The same seed and index are the same case.
 * @throws anything but an AppError: a finding
 */
export async function runCase(request: CaseRequest): Promise<CaseOutcome> {
  const random = new Random(Math.imul(request.seed, 0x9e3779b1) ^ Math.imul(request.index + 1, 0x85ebca6b));
  await rm(request.scratch, { recursive: true, force: true });
  try {
    const folders = await prepare(request, random);
    const choices = chooseChoices(random);
    return await plan(folders, choices, request);
  } catch (error) {
    if (error instanceof AppError && error.code !== "CHECK_FAILED")
      return { kind: "error", code: error.code };
    throw error;
  } finally {
    await rm(request.scratch, { recursive: true, force: true });
  }
}

interface Folders {
  readonly base: string;
  readonly adapter: string;
}

async function prepare({ corpus, scratch }: CaseRequest, random: Random): Promise<Folders> {
  const sharded = corpus.cases.filter(({ base }) => base.endsWith("-sharded"));
  const chosen = random.pick(random.chance(0.1) ? sharded : corpus.cases);
  const folders = { base: join(scratch, "base"), adapter: join(scratch, "adapter") };
  await copyLinks(chosen.base, folders.base);
  await copyLinks(chosen.adapter, folders.adapter);
  if (random.chance(0.2)) await asTorchFile(folders.adapter, random.chance(0.3));
  else if (random.chance(0.05)) await asMlx(folders.adapter);
  const side = random.chance(0.7) ? folders.adapter : folders.base;
  const files = (await readdir(side)).filter((file) => /\.(json|safetensors|bin)$/.test(file)).sort();
  if (files.length === 0) return folders;
  const times = random.chance(0.2) ? 2 : 1;
  for (let i = 0; i < times; i++) {
    const path = join(side, random.pick(files));
    const changed = mutateFile(path, await readFile(path), random, corpus.donors);
    // A hard link to the fixture: it must go before another file takes its place.
    await rm(path);
    await writeFile(path, changed);
  }
  return folders;
}

async function copyLinks(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isFile()) await link(source, target).catch(() => copyFile(source, target));
  }
}

function mutateFile(
  path: string,
  content: Buffer,
  random: Random,
  donors: readonly string[],
): Uint8Array | string {
  if (path.endsWith(".json")) {
    const text = content.toString("utf8");
    return random.chance(0.9) ? mutateJson(text, random, donors) : mutateText(text, random);
  }
  if (path.endsWith(".bin")) return mutateTorchFile(content, random);
  return content.byteLength > 100 ? mutateSafetensors(content, random) : mutateBytes(content, random);
}

/** Opcodes in the pickle of a file of torch.save, or bytes in what is around it; the pickle comes first in both formats. */
function mutateTorchFile(content: Buffer, random: Random): Uint8Array {
  const from = Math.max(0, content.indexOf(Buffer.from([0x80, 0x02, 0x7d])));
  const to = from + Math.max(1, content.subarray(from).indexOf(Buffer.from("u.")) + 2);
  if (random.chance(0.6)) {
    const pickle = mutatePickle(content.subarray(from, to), random);
    // The zip's sizes hold where the length does; a longer one would only be refused for its size.
    const fitted = Buffer.alloc(to - from, ".");
    fitted.set(pickle.subarray(0, to - from));
    return Buffer.concat([
      content.subarray(0, from),
      random.chance(0.8) ? fitted : pickle,
      content.subarray(to),
    ]);
  }
  return random.chance(0.5)
    ? mutateBytes(content, random, { from: Math.max(0, content.byteLength - 1500) })
    : mutateBytes(content, random);
}

function chooseChoices(random: Random): MergeChoices {
  return {
    weights: [1],
    tokenizer: null,
    numerics: random.chance(0.8) ? "peft-1" : "exact-1",
    dtype: random.chance(0.8) ? null : random.pick(["BF16", "F16", "F32"] as const),
    ties: random.chance(0.8) ? "preserve" : "peft",
  };
}

async function plan(folders: Folders, choices: MergeChoices, request: CaseRequest): Promise<CaseOutcome> {
  const base = await readModelFolder(folders.base, { roots: null });
  const adapter = await readModelFolder(folders.adapter, { roots: null });
  if (adapter.facts.kind === "adapter") summariseAdapter(adapter.facts);
  for (const { facts } of [base, adapter]) countParameters(facts);
  const planned = planMerge({
    base: { facts: base.facts, label: folders.base },
    sources: [{ facts: adapter.facts, label: folders.adapter }],
    choices,
  });
  // A plan is stored and sent: what it says must survive that.
  const text = JSON.stringify(planned);
  const [reason] = planned.refusals;
  if (reason) return { kind: "refused", code: reason.code };
  const digest = createHash("sha256").update(text.replaceAll(request.scratch, "")).digest("hex");
  if (request.merged.has(digest) || request.merged.size >= request.maxMerges) return { kind: "planned" };
  request.merged.add(digest);
  return merge(folders, choices, join(request.scratch, "out"));
}

async function merge(folders: Folders, choices: MergeChoices, output: string): Promise<CaseOutcome> {
  const options = { threads: 1 };
  const asked = { ...folders, choices };
  const planned = await finish(planLocal(asked, options));
  const summary = await finish(runMerge(await localMergeInput(asked, planned, output), options));
  if (summary.report.verdict !== "PASSED") throw new Error(`${basename(output)}: ${summary.report.verdict}`);
  return { kind: "merged" };
}
