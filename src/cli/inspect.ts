import { type AdapterSummary, summariseAdapter } from "../core/adapters/summary.ts";
import { countParameters, readModelFacts } from "../core/arch.ts";
import { type CheckpointFacts, checkpointDigests, type VersionDigests } from "../core/checkpoint.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { parseMergeRecord } from "../core/record.ts";
import { digestCheckpoint } from "../engine/digest.ts";
import { readRecordFile } from "../storage/checkpoint.ts";
import { readModelFolder } from "../storage/model-folder.ts";
import type { CommandContext, Outcome } from "./command.ts";
import { bytes, count, plain, table } from "./format.ts";

/** `inspect`: headers and configs; digests unless `--no-digest`. */
export async function run({ values, positionals, engine, watch }: CommandContext): Promise<Outcome> {
  const found = await readModelFolder(positionals[0]!, { roots: null });
  // As it was given, where the model lies right there.
  const folder = found.notices.length === 0 ? positionals[0]! : found.folder;
  const read = found.facts;
  const digested = values["no-digest"] !== true;
  const facts = digested ? await watch(digestCheckpoint({ folder, facts: read }, engine)) : read;
  const digests = digested ? checkpointDigests(facts) : null;
  const record = await readRecordFile(folder);
  const about = describe(facts, digests, record);
  const tensors = values.tensors === true ? tensorRows(facts) : null;
  return {
    document: { folder, ...about, notices: found.notices, ...(tensors && { tensors }) },
    lines: [
      ...found.notices.map(({ message }) => message),
      ...lines(folder, about),
      ...(tensors ? tensorLines(tensors) : []),
    ],
  };
}

function describe(facts: CheckpointFacts, digests: VersionDigests | null, record: JsonObject | null) {
  const model = readModelFacts(facts.config);
  const merge = record === null ? null : parseMergeRecord(record);
  return {
    kind: facts.kind,
    architecture: model.architecture,
    modelType: model.modelType,
    ...countParameters(facts),
    tensorCount: facts.weights.reduce((sum, file) => sum + file.tensors.length, 0),
    tiedEmbeddings: facts.kind === "checkpoint" ? model.tiedEmbeddings : null,
    quantMethod: model.quantMethod,
    hasCode: facts.hasCode,
    shards: facts.weights.map(({ path, size, tensors }) => ({ path, size, tensors: tensors.length })),
    files: facts.files.map(({ path, size, role, digest }) => ({ path, size, role, digest })),
    tokenizer: facts.tokenizer,
    adapter: facts.kind === "adapter" ? summariseAdapter(facts) : null,
    digests,
    merge: merge && { recipeDigest: merge.recipeDigest, engine: merge.engine, recipe: merge.recipe },
  };
}

type About = ReturnType<typeof describe>;

function lines(folder: string, about: About): string[] {
  const kind = about.kind === "adapter" ? "an adapter" : about.merge ? "a merged checkpoint" : "a checkpoint";
  const rows: string[][] = [
    ["architecture", about.architecture ?? about.modelType ?? "not stated"],
    [
      "parameters",
      `${count(about.parameters)} in ${about.tensorCount} tensors, ${about.dtype ?? "no dtype"}`,
    ],
    ...about.shards.map((shard) => [
      "weights in",
      `${shard.path}, ${bytes(shard.size)}, ${shard.tensors} tensors`,
    ]),
    ...about.files
      .filter((file) => file.role !== "WEIGHTS")
      .map((file) => ["file", `${file.path}, ${bytes(file.size)}, ${file.role.toLowerCase()}`]),
    ...(about.adapter ? adapterRows(about.adapter) : []),
    ...(about.quantMethod ? [["quantised", about.quantMethod]] : []),
    ...(about.hasCode ? [["code", "carries Python code; Graftwork never runs it"]] : []),
    ...(about.digests
      ? [
          ["weights", about.digests.weights],
          ["version", about.digests.version],
        ]
      : []),
    ...(about.merge ? [["recipe", about.merge.recipeDigest]] : []),
  ];
  const shown = about.kind === "adapter" ? rows.slice(1) : rows;
  return [`${folder} is ${kind}`, ...table(shown).map((line) => `  ${line}`)];
}

function adapterRows(adapter: AdapterSummary): string[][] {
  const { targetModules, targetParameters, modulesToSave, settings } = adapter;
  const method = adapter.format === "MLX" ? "LoRA, in MLX's format" : (adapter.peftType ?? "not stated");
  const listed = (value: Json) => (Array.isArray(value) ? value.join(", ") : String(value ?? "not stated"));
  const some = (value: Json) => value !== null && (!Array.isArray(value) || value.length > 0);
  return [
    [
      "method",
      `${method}${adapter.useDora ? " with magnitudes (DoRA)" : ""}${adapter.useRslora ? ", rank-stabilised" : ""}`,
    ],
    ["trained on", adapter.baseModel ?? "not stated"],
    ["targets", listed(targetModules)],
    ...(some(targetParameters) ? [["parameters", listed(targetParameters)]] : []),
    ...(some(modulesToSave) ? [["saved whole", listed(modulesToSave)]] : []),
    ...settings.map((s) => [
      "modules",
      `${s.modules} of rank ${s.rank}, alpha ${plain(s.alpha)}, scale ${plain(s.scale)}`,
    ]),
  ];
}

function tensorRows(facts: CheckpointFacts) {
  return facts.weights.flatMap((file) =>
    file.tensors.map((t) => ({
      name: t.name,
      dtype: t.dtype,
      shape: t.shape,
      bytes: t.end - t.begin,
      file: file.path,
      digest: t.digest ?? null,
      stats: t.stats ?? null,
    })),
  );
}

function tensorLines(tensors: ReturnType<typeof tensorRows>): string[] {
  return table(
    tensors.map((t) => [`  ${t.name}`, t.dtype, `[${t.shape.join(", ")}]`, bytes(t.bytes), t.digest ?? ""]),
  );
}
