import { join, resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { checkpointDigests } from "../core/checkpoint.ts";
import { byteLength } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import {
  type ExtractionPlan,
  type ExtractionRequest,
  extractedConfig,
  type ModuleLoss,
  planExtraction,
} from "../core/extraction.ts";
import { buildSafetensorsHeader } from "../core/safetensors.ts";
import { requireOutside, stagingBeside } from "../storage/beside.ts";
import { readCheckpoint } from "../storage/checkpoint.ts";
import {
  createShard,
  discardStaging,
  exists,
  makeStaging,
  outputExists,
  publishFolder,
  requireFreeDisk,
  syncTree,
  writeText,
} from "../storage/staging.ts";
import { digestCheckpoint } from "./digest.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { ExtractMessage, ExtractTask } from "./extract-worker.ts";
import { sameValues } from "./same-values.ts";
import { unpackError } from "./travel.ts";

export interface ExtractInput extends ExtractionRequest {
  readonly base: string;
  readonly tuned: string;
  readonly output: string;
}

export interface ExtractSummary {
  readonly output: string;
  readonly modules: readonly ModuleLoss[];
  /** Over all modules together, weighted by the size of their changes. */
  readonly energyKept: number;
  /** Tensors that differ and that the adapter does not carry. */
  readonly leftBehind: readonly { readonly name: string; readonly why: string }[];
}

/**
 * Writes the difference of two checkpoints as a standard PEFT adapter of rank r, with a certificate of what it keeps
 * (`extract.json`). Module by module, in memory of the factors and a few rows.
 * @throws NOT_THE_SAME_MODEL, NO_TARGET, NO_EFFECT, OUTPUT_EXISTS, OUTPUT_INSIDE_INPUT, NOT_ENOUGH_DISK
 */
export async function* runExtract(
  input: ExtractInput,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, ExtractSummary> {
  const output = resolve(input.output);
  if (await exists(output)) throw outputExists(output);
  const found = [await located(input.base), await located(input.tuned)] as const;
  await requireOutside(
    output,
    found.map(({ folder }) => folder),
  );
  // What headers can tell is said before gigabytes are read for their digests.
  planExtraction(found[0].facts, found[1].facts, input);
  const base = yield* digested(found[0], options);
  const tuned = yield* digested(found[1], options);
  const plan = planExtraction(base.facts, tuned.facts, input);
  const leftBehind = plan.others
    .filter(
      (other) =>
        !sameValues(
          { folder: base.folder, tensor: other.base },
          { folder: tuned.folder, tensor: other.tuned },
        ),
    )
    .map(({ name, why }) => ({ name, why }));
  const layout = adapterLayout(plan, input);
  await requireFreeDisk(output, layout.size);
  const staging = await stagingBeside(output);
  let published = false;
  const topmostMade = await makeStaging(staging);
  try {
    const path = join(staging, "adapter_model.safetensors");
    await createShard(path, layout.header, layout.size);
    yield { type: "stage", stage: "merge", message: `extracting ${plan.modules.length} modules` };
    const modules = yield* extractModules({ plan, input, base, tuned, path, layout }, options);
    const energyKept = overall(modules);
    await writeText(
      join(staging, "adapter_config.json"),
      `${JSON.stringify(extractedConfig(plan, input), null, 2)}\n`,
    );
    const certificate = certificateOf({ input, base, tuned, modules, energyKept, leftBehind });
    await writeText(join(staging, "extract.json"), `${JSON.stringify(certificate, null, 2)}\n`);
    yield { type: "stage", stage: "sync", message: "forcing the files to disk" };
    await syncTree(staging);
    options.signal?.throwIfAborted();
    await publishFolder(staging, output);
    published = true;
    return { output, modules, energyKept, leftBehind };
  } finally {
    if (!published) await discardStaging(staging, topmostMade);
  }
}

async function located(folder: string): Promise<Located> {
  const place = { folder: resolve(folder), facts: await readCheckpoint(folder, { roots: null }) };
  if (place.facts.kind === "adapter") {
    throw new AppError("NOT_A_CHECKPOINT", `${folder} is an adapter, not a checkpoint with full weights.`);
  }
  return place;
}

async function* digested(place: Located, options: EngineOptions): AsyncGenerator<EngineEvent, Located> {
  return { ...place, facts: yield* digestCheckpoint(place, options) };
}

interface AdapterLayout {
  readonly header: Uint8Array;
  readonly size: number;
  /** Where each module's factors begin in the file. */
  readonly places: readonly { readonly a: number; readonly b: number }[];
}

function adapterLayout({ modules }: ExtractionPlan, { rank, dtype }: ExtractInput): AdapterLayout {
  let at = 0;
  const entries = modules.flatMap(({ module, base, transposed }) => {
    const [rows, columns] = base.shape as [number, number];
    const [out, inputs] = transposed ? [columns, rows] : [rows, columns];
    return [
      { name: `base_model.model.${module}.lora_A.weight`, dtype, shape: [rank, inputs] },
      { name: `base_model.model.${module}.lora_B.weight`, dtype, shape: [out, rank] },
    ].map((entry) => {
      const begin = at;
      at += byteLength(dtype, entry.shape)!;
      return { ...entry, begin, end: at };
    });
  });
  const header = buildSafetensorsHeader({ format: "pt" }, entries);
  const places = modules.map((_, i) => ({
    a: header.byteLength + entries[2 * i]!.begin,
    b: header.byteLength + entries[2 * i + 1]!.begin,
  }));
  return { header, size: header.byteLength + at, places };
}

interface Extraction {
  readonly plan: ExtractionPlan;
  readonly input: ExtractInput;
  readonly base: Located;
  readonly tuned: Located;
  readonly path: string;
  readonly layout: AdapterLayout;
}

async function* extractModules(
  { plan, input, base, tuned, path, layout }: Extraction,
  { threads, signal }: EngineOptions,
): AsyncGenerator<EngineEvent, ModuleLoss[]> {
  const range = (
    { folder }: Located,
    { file, begin, dtype }: { file: string; begin: number; dtype: string },
  ) => ({
    path: join(folder, file),
    offset: begin,
    dtype,
  });
  const tasks = plan.modules.map(
    (module, i): ExtractTask => ({
      module: module.module,
      shape: module.base.shape as [number, number],
      base: range(base, module.base),
      tuned: range(tuned, module.tuned),
      transposed: module.transposed,
      rank: input.rank,
      // Every module starts from another random range, whatever thread takes it.
      seed: input.seed + i,
      dtype: input.dtype,
      output: { path, ...layout.places[i]! },
    }),
  );
  const losses = new Map<string, ModuleLoss>();
  const sizes = new Map(plan.modules.map(({ module, base }) => [module, base.end - base.begin]));
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  let bytes = 0;
  const leaving = new AbortController();
  const stop = signal ? AbortSignal.any([signal, leaving.signal]) : leaving.signal;
  const work = shareOut(tasks, Math.min(threads, tasks.length), stop, (loss) => {
    losses.set(loss.module, loss);
    bytes += sizes.get(loss.module)!;
  });
  let done = false;
  const finished = work.finally(() => {
    done = true;
  });
  try {
    while (!done) {
      await Promise.race([finished, new Promise((wake) => setTimeout(wake, 200))]);
      yield { type: "progress", stage: "merge", done: bytes, total };
    }
    await finished;
  } finally {
    // Also when whoever watches leaves early: no thread may write into a folder that is being removed.
    leaving.abort(new Error("the extraction was left early"));
    await finished.catch(() => {});
  }
  const modules = tasks.map(({ module }) => losses.get(module)!);
  if (modules.every(({ changeNorm }) => changeNorm === 0)) {
    throw new AppError(
      "NO_EFFECT",
      "the two checkpoints are equal in every linear layer: there is nothing to extract.",
    );
  }
  return modules;
}

/** Deals tasks to threads one at a time. */
async function shareOut(
  tasks: readonly ExtractTask[],
  threads: number,
  signal: AbortSignal,
  learn: (loss: ModuleLoss) => void,
): Promise<void> {
  const file = import.meta.url.endsWith(".ts") ? "./extract-worker.ts" : "./extract-worker.js";
  let next = 0;
  const workers: Worker[] = [];
  const one = () =>
    new Promise<void>((done, fail) => {
      const worker = new Worker(new URL(file, import.meta.url));
      workers.push(worker);
      const feed = () => worker.postMessage(tasks[next++] ?? null);
      worker.on("message", (message: ExtractMessage) => {
        if ("failed" in message) return fail(unpackError(message.failed, "An extraction thread"));
        learn(message);
        feed();
      });
      worker.on("error", fail);
      worker.on("exit", (code) => {
        if (code === 0) done();
        else fail(new Error(`an extraction thread ended unexpectedly (exit code ${code})`));
      });
      signal.addEventListener("abort", () => fail(signal.reason), { once: true });
      feed();
    });
  try {
    signal.throwIfAborted();
    await Promise.all(Array.from({ length: threads }, one));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function overall(modules: readonly ModuleLoss[]): number {
  const total = modules.reduce((sum, { changeNorm }) => sum + changeNorm ** 2, 0);
  const lost = modules.reduce(
    (sum, { changeNorm, energyKept }) => sum + changeNorm ** 2 * (1 - energyKept),
    0,
  );
  return total === 0 ? 1 : 1 - lost / total;
}

function certificateOf(parts: {
  readonly input: ExtractInput;
  readonly base: Located;
  readonly tuned: Located;
  readonly modules: readonly ModuleLoss[];
  readonly energyKept: number;
  readonly leftBehind: ExtractSummary["leftBehind"];
}) {
  const { input, base, tuned, modules, energyKept, leftBehind } = parts;
  return {
    schema: 1,
    base: checkpointDigests(base.facts),
    tuned: checkpointDigests(tuned.facts),
    rank: input.rank,
    dtype: input.dtype,
    seed: input.seed,
    energyKept,
    modules,
    leftBehind,
  };
}
