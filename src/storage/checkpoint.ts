import {
  ADAPTER_CONFIG_FILE,
  type CheckpointFacts,
  CONFIG_FILE,
  type FileFacts,
  fileRole,
  RECORD_FILE,
  type TokenizerFacts,
} from "../core/checkpoint.ts";
import { AppError } from "../core/errors.ts";
import { type JsonObject, TOKENIZER_JSON } from "../core/json.ts";
import { ID_FILES, largestTokenId } from "../core/tokenizer.ts";
import { digestFile } from "./file.ts";
import { readJson, type ScannedFile, type ScanOptions, scanFolder } from "./folder.ts";
import { readAdapterWeights, readBaseWeights } from "./weights.ts";

/** Carried files beyond this are listed without a digest: it would cost a pass over gigabytes that nothing needs. */
const MAX_DIGESTED_CARRIED_BYTES = 16_000_000;

export interface ReadOptions extends ScanOptions {
  /** What the tokenizer's files say, where that is known: they may have megabytes, which hold up a server's loop. */
  readonly tokenizer?: TokenizerFacts | null;
}

/**
 * Reads everything of a checkpoint or adapter folder but its tensor data: files with stamps, validated headers,
 * index, config, tokenizer. Tensor digests and statistics are added by the engine.
 * @throws NOT_A_MODEL, NO_WEIGHTS, BAD_FILE, UNSAFE_PICKLE, FOREIGN_FORMAT, BAD_INDEX, BAD_JSON, PATH_OUTSIDE_ROOTS
 */
export async function readCheckpoint(folder: string, options: ReadOptions): Promise<CheckpointFacts> {
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
  const { weights, index } = await (kind === "adapter"
    ? readAdapterWeights(folder, files, config)
    : readBaseWeights(folder, files));
  const shards = new Set(weights.map((file) => file.path));
  return {
    kind,
    files: await Promise.all(files.map((file) => describeFile(file, shards))),
    weights,
    config,
    index,
    tokenizer: options.tokenizer === undefined ? await readTokenizer(folder, files) : options.tokenizer,
    hasCode: config.auto_map !== undefined || files.some((file) => file.path.endsWith(".py")),
  };
}

async function describeFile(file: ScannedFile, shards: ReadonlySet<string>): Promise<FileFacts> {
  const role = shards.has(file.path) ? "WEIGHTS" : fileRole(file.path);
  const digested = role !== "WEIGHTS" && (role !== "CARRIED" || file.size <= MAX_DIGESTED_CARRIED_BYTES);
  return { ...file, role, digest: digested ? await digestFile(file.stamp.realPath) : null };
}

async function readTokenizer(folder: string, files: readonly ScannedFile[]): Promise<TokenizerFacts | null> {
  const paths = files.map((file) => file.path).filter((path) => fileRole(path) === "TOKENIZER");
  if (paths.length === 0) return null;
  const json: Partial<Record<(typeof ID_FILES)[number], JsonObject>> = {};
  for (const file of ID_FILES)
    if (paths.includes(file)) json[file] = await readJson(folder, file, TOKENIZER_JSON);
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
