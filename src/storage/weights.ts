import { join } from "node:path";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  INDEX_FILE,
  indexProblems,
  parseShardIndex,
  SINGLE_WEIGHTS_FILE,
  type WeightFile,
} from "../core/checkpoint.ts";
import { AppError, refusal } from "../core/errors.ts";
import { foreignFormat, isMlxConfig, sniffBytes } from "../core/foreign.ts";
import type { JsonObject } from "../core/json.ts";
import { readSafetensorsHeader } from "../core/safetensors.ts";
import { FileSource } from "./file.ts";
import { readJson, type ScannedFile } from "./folder.ts";
import { readTorchFile } from "./torch-file.ts";

export interface FolderWeights {
  readonly weights: readonly WeightFile[];
  readonly index: { readonly path: string; readonly metadata: JsonObject } | null;
}

/** What PEFT reads where there is no safetensors file. */
const ADAPTER_PICKLE = "adapter_model.bin";
const MLX_WEIGHTS_FILE = "adapters.safetensors";
/** transformers shards an adapter under this index too, PEFT itself never shards one. */
const ADAPTER_INDEX_FILES = [INDEX_FILE, `${ADAPTER_WEIGHTS_FILE}.index.json`];

/**
 * The headers of a base's weights: one safetensors file, or shards by an index.
 * @throws NO_WEIGHTS, FOREIGN_FORMAT, MISSING_SHARD, BAD_INDEX, BAD_FILE
 */
export async function readBaseWeights(folder: string, files: readonly ScannedFile[]): Promise<FolderWeights> {
  if (holds(files, SINGLE_WEIGHTS_FILE)) return single(folder, SINGLE_WEIGHTS_FILE);
  if (holds(files, INDEX_FILE)) return readSharded(folder, files, INDEX_FILE);
  const gguf = files.find(({ path }) => path.endsWith(".gguf"));
  if (gguf) throw foreign("gguf", join(folder, gguf.path));
  const pickles = files.filter(({ path }) => /\.(bin|pt|pth)$/.test(path));
  const pickle = pickles.find(({ path }) => /^(pytorch_)?model/.test(path)) ?? pickles[0];
  throw new AppError(
    "NO_WEIGHTS",
    pickle
      ? `${folder} holds its weights as a pickle (${pickle.path}), which can run code when it is read. Convert it to safetensors with the tool that wrote it.`
      : `${folder} has no ${SINGLE_WEIGHTS_FILE} and no ${INDEX_FILE}: finish the download.`,
  );
}

/**
 * The headers of an adapter's weights, where PEFT looks for them and in its order: safetensors, then a pickle of tensors,
 * which is read without running it; shards of transformers; MLX's file where the config is MLX's.
 * @throws NO_WEIGHTS, UNSAFE_PICKLE, FOREIGN_FORMAT, MISSING_SHARD, BAD_INDEX, BAD_FILE
 */
export async function readAdapterWeights(
  folder: string,
  files: readonly ScannedFile[],
  config: JsonObject,
): Promise<FolderWeights> {
  const isMlx = isMlxConfig(config);
  const usual = isMlx ? MLX_WEIGHTS_FILE : ADAPTER_WEIGHTS_FILE;
  if (holds(files, usual)) return single(folder, usual);
  if (!isMlx) {
    for (const path of ADAPTER_INDEX_FILES) {
      if (holds(files, path) && files.some((file) => /^adapter_model-.*\.safetensors$/.test(file.path))) {
        return readSharded(folder, files, path);
      }
    }
    if (holds(files, ADAPTER_PICKLE)) return single(folder, ADAPTER_PICKLE);
  }
  const others = files
    .map(({ path }) => path)
    .filter((path) => /\.(safetensors|gguf|npz|bin|pt)$/.test(path));
  const gguf = others.find((path) => path.endsWith(".gguf"));
  if (gguf) throw foreign("gguf", join(folder, gguf));
  throw new AppError(
    "NO_WEIGHTS",
    `${folder} has no ${usual}${isMlx ? "" : ` and no ${ADAPTER_PICKLE}`}${others.length > 0 ? `, only ${others.slice(0, 5).join(", ")}` : ""}: ${hasModel(others) ? `remove ${ADAPTER_CONFIG_FILE} where this is a merged model, or ` : ""}finish the download.`,
  );
}

/** The adapter's config may be all that is left of an adapter in a model's folder. */
const hasModel = (files: readonly string[]) => files.some((path) => /^model(-.*)?\.safetensors$/.test(path));

const holds = (files: readonly ScannedFile[], path: string) => files.some((file) => file.path === path);

async function single(folder: string, path: string): Promise<FolderWeights> {
  return { weights: [await readWeightFile(folder, path)], index: null };
}

async function readSharded(
  folder: string,
  files: readonly ScannedFile[],
  path: string,
): Promise<FolderWeights> {
  const index = parseShardIndex(await readJson(folder, path), path);
  const missing = index.shards.filter((shard) => !holds(files, shard));
  if (missing.length > 0) {
    throw new AppError(
      "MISSING_SHARD",
      `${path} names ${missing.slice(0, 20).join(", ")}, which ${folder} does not hold: finish the download.`,
      { details: { missing } },
    );
  }
  const weights: WeightFile[] = [];
  for (const shard of index.shards) weights.push(await readWeightFile(folder, shard));
  const problems = indexProblems(index, weights, path);
  if (problems.length > 0) throw refusal(`${folder} is not a consistent checkpoint`, problems.slice(0, 20));
  return { weights, index: { path, metadata: index.metadata } };
}

/** Header of one weight file in a folder: safetensors, or by its name a file of torch.save. */
export async function readWeightFile(folder: string, path: string): Promise<WeightFile> {
  await using source = await FileSource.open(join(folder, path));
  const kind = sniffBytes(await source.read(0, Math.min(64, source.size)));
  if (kind === "gguf") throw foreign("gguf", source.name);
  if (kind === "lfs-pointer") {
    throw new AppError(
      "BAD_FILE",
      `${source.name} is a Git LFS pointer, not the file that it stands for: run "git lfs pull" in its folder.`,
    );
  }
  // Awaited here: the source is closed when this function returns.
  if (/\.(bin|pt)$/.test(path)) return await readTorchFile(source, path);
  if (kind === "zip") {
    throw new AppError(
      "BAD_FILE",
      `${source.name} is a zip archive, as torch.save writes it, under a safetensors name: rename an adapter's to ${ADAPTER_PICKLE}, or download it again.`,
    );
  }
  const { metadata, tensors, dataStart } = await readSafetensorsHeader(source);
  return { path, size: source.size, dataStart, metadata, tensors };
}

/** A refusal as an error. */
export function foreign(format: Parameters<typeof foreignFormat>[0], where: string): AppError {
  return refusal("this cannot be read", [foreignFormat(format, where)]);
}
