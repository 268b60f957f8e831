import { join } from "node:path";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  type CheckpointFacts,
  CONFIG_FILE,
  type FileFacts,
  fileRole,
  INDEX_FILE,
  indexProblems,
  parseShardIndex,
  RECORD_FILE,
  type ShardIndex,
  SINGLE_WEIGHTS_FILE,
  type TokenizerFacts,
  type WeightFile,
} from "../core/checkpoint.ts";
import { AppError, refusal } from "../core/errors.ts";
import { type JsonObject, parseJsonObject } from "../core/json.ts";
import { readSafetensorsHeader } from "../core/safetensors.ts";
import { ID_FILES, largestTokenId } from "../core/tokenizer.ts";
import { digestFile, FileSource } from "./file.ts";
import { readText, type ScannedFile, type ScanOptions, scanFolder } from "./folder.ts";

/** Carried files beyond this are listed without a digest: it would cost a pass over gigabytes that nothing needs. */
const MAX_DIGESTED_CARRIED_BYTES = 16_000_000;

/**
 * Reads everything of a checkpoint or adapter folder but its tensor data: files with stamps, validated headers,
 * index, config, tokenizer. Tensor digests and statistics are added by the engine.
 * @throws NOT_A_MODEL, BAD_FILE, BAD_INDEX, BAD_JSON, PATH_OUTSIDE_ROOTS
 */
export async function readCheckpoint(folder: string, options: ScanOptions): Promise<CheckpointFacts> {
  const files = await scanFolder(folder, options);
  const has = (path: string) => files.some((file) => file.path === path);
  const kind = has(ADAPTER_CONFIG_FILE) ? "adapter" : "checkpoint";
  const configFile = kind === "adapter" ? ADAPTER_CONFIG_FILE : CONFIG_FILE;
  if (!has(configFile)) {
    throw new AppError(
      "NOT_A_MODEL",
      `${folder} has neither ${CONFIG_FILE} nor ${ADAPTER_CONFIG_FILE}: name the folder that holds the model's files.`,
    );
  }
  const config = await readJson(folder, configFile);
  const { weights, index } = await readWeights(folder, files, kind);
  const shards = new Set(weights.map((file) => file.path));
  return {
    kind,
    files: await Promise.all(files.map((file) => describeFile(file, shards))),
    weights,
    config,
    index: index === null ? null : { path: INDEX_FILE, metadata: index.metadata },
    tokenizer: await readTokenizer(folder, files),
    hasCode: config.auto_map !== undefined || files.some((file) => file.path.endsWith(".py")),
  };
}

async function readJson(folder: string, path: string): Promise<JsonObject> {
  // The whole path: base and adapter have files of the same names.
  const file = join(folder, path);
  return parseJsonObject(await readText(file), file);
}

async function describeFile(file: ScannedFile, shards: ReadonlySet<string>): Promise<FileFacts> {
  const role = shards.has(file.path) ? "WEIGHTS" : fileRole(file.path);
  const digested = role !== "WEIGHTS" && (role !== "CARRIED" || file.size <= MAX_DIGESTED_CARRIED_BYTES);
  return { ...file, role, digest: digested ? await digestFile(file.stamp.realPath) : null };
}

async function readWeights(
  folder: string,
  files: readonly ScannedFile[],
  kind: CheckpointFacts["kind"],
): Promise<{ weights: WeightFile[]; index: ShardIndex | null }> {
  const has = (path: string) => files.some((file) => file.path === path);
  const single = kind === "adapter" ? ADAPTER_WEIGHTS_FILE : SINGLE_WEIGHTS_FILE;
  if (has(single)) return { weights: [await readWeightFile(folder, single)], index: null };
  if (kind === "checkpoint" && has(INDEX_FILE)) return readSharded(folder, files);
  const pickle = files.find((file) => /\.(bin|pt|pth)$/.test(file.path));
  throw new AppError(
    "NO_WEIGHTS",
    pickle
      ? `${folder} holds its weights as a pickle (${pickle.path}), which can run code when it is read. Convert it to safetensors with the tool that wrote it.`
      : `${folder} has no ${single}${kind === "checkpoint" ? ` and no ${INDEX_FILE}` : ""}: finish the download.`,
  );
}

async function readSharded(folder: string, files: readonly ScannedFile[]) {
  const index = parseShardIndex(await readJson(folder, INDEX_FILE), INDEX_FILE);
  const missing = index.shards.filter((shard) => !files.some((file) => file.path === shard));
  if (missing.length > 0) {
    throw new AppError(
      "MISSING_SHARD",
      `${INDEX_FILE} names ${missing.join(", ")}, which ${folder} does not hold: finish the download.`,
      { details: { missing } },
    );
  }
  const weights: WeightFile[] = [];
  for (const shard of index.shards) weights.push(await readWeightFile(folder, shard));
  const problems = indexProblems(index, weights, INDEX_FILE);
  if (problems.length > 0) throw refusal(`${folder} is not a consistent checkpoint`, problems.slice(0, 20));
  return { weights, index };
}

/** Header of one safetensors file in a folder. */
export async function readWeightFile(folder: string, path: string): Promise<WeightFile> {
  await using source = await FileSource.open(join(folder, path));
  const { metadata, tensors, dataStart } = await readSafetensorsHeader(source);
  return { path, size: source.size, dataStart, metadata, tensors };
}

async function readTokenizer(folder: string, files: readonly ScannedFile[]): Promise<TokenizerFacts | null> {
  const paths = files.map((file) => file.path).filter((path) => fileRole(path) === "TOKENIZER");
  if (paths.length === 0) return null;
  const json: Partial<Record<(typeof ID_FILES)[number], JsonObject>> = {};
  for (const file of ID_FILES) if (paths.includes(file)) json[file] = await readJson(folder, file);
  const settings = json["tokenizer_config.json"];
  return {
    maxId: largestTokenId(json),
    hasChatTemplate:
      paths.some((path) => path.includes("chat_template")) || settings?.chat_template !== undefined,
  };
}

/** Parsed `graftwork.json` of a merged folder, or `null` where there is none. */
export async function readRecordFile(folder: string): Promise<JsonObject | null> {
  try {
    return await readJson(folder, RECORD_FILE);
  } catch (error) {
    if (error instanceof AppError && error.code === "NOT_FOUND") return null;
    throw error;
  }
}
