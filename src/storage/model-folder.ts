import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ADAPTER_CONFIG_FILE, type CheckpointFacts, CONFIG_FILE } from "../core/checkpoint.ts";
import { AppError, type Finding } from "../core/errors.ts";
import { type ForeignFormat, foreignKeys, foreignMetadata } from "../core/foreign.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { type ScannedFile, type ScanOptions, scanFolder } from "./folder.ts";
import { foreign, readWeightFile } from "./weights.ts";

/** A checkpoint or adapter, and the folder that it was found in. */
export interface ModelFolder {
  /** Absolute; a sub-folder of the given one where the adapter lies there. */
  readonly folder: string;
  readonly facts: CheckpointFacts;
  /** What a person should know about where it was found. */
  readonly notices: readonly Finding[];
}

/**
 * Reads the model in a folder, or the one adapter below it: PEFT saves every adapter not called "default" in a
 * sub-folder of its name, and trainers save into `checkpoint-500`.
 * @throws what `readCheckpoint` throws; SEVERAL_ADAPTERS naming them, NOT_A_FOLDER, FOREIGN_FORMAT for files of other tools
 */
export async function readModelFolder(given: string, options: ScanOptions): Promise<ModelFolder> {
  const top = resolve(given);
  const files = await scanModel(top, options);
  if (files.some(({ path }) => path === CONFIG_FILE || path === ADAPTER_CONFIG_FILE)) {
    return { folder: top, facts: await readCheckpoint(top, options), notices: [] };
  }
  const below = files
    .filter(({ path }) => path.endsWith(`/${ADAPTER_CONFIG_FILE}`))
    .map(({ path }) => dirname(path));
  if (below.length > 1) throw several(given, below);
  const [only] = below;
  if (only === undefined) throw await notAModel(top, files);
  const folder = join(top, only);
  return { folder, facts: await readCheckpoint(folder, options), notices: [inSubfolder(given, only)] };
}

function several(folder: string, below: readonly string[]): AppError {
  const names = below.slice(0, 20).join(", ") + (below.length > 20 ? ", …" : "");
  return new AppError(
    "SEVERAL_ADAPTERS",
    `${folder} holds ${below.length} adapters in sub-folders (${names}): name the folder of the one you mean.`,
    { details: { folders: below } },
  );
}

function inSubfolder(folder: string, found: string): Finding {
  return {
    code: "ADAPTER_IN_SUBFOLDER",
    subject: found,
    message: `${folder} has no ${ADAPTER_CONFIG_FILE} of its own; the adapter in its sub-folder ${found} was taken, the only one there.`,
  };
}

async function scanModel(top: string, options: ScanOptions): Promise<ScannedFile[]> {
  try {
    return await scanFolder(top, options);
  } catch (error) {
    // Only now: whoever may not read a path need not learn what it is.
    if (error instanceof AppError && error.code === "NOT_FOUND") await requireFolder(top);
    throw error;
  }
}

/** A single file is no model: the config beside it is missing. Files of other tools often come alone. */
async function requireFolder(path: string): Promise<void> {
  const facts = await stat(path).catch(() => null);
  if (!facts?.isFile()) return;
  const format = await recognise(dirname(path), basename(path));
  if (format) throw foreign(format, path);
  throw new AppError(
    "NOT_A_FOLDER",
    `${path} is a file: name the folder that it lies in, where ${CONFIG_FILE} or ${ADAPTER_CONFIG_FILE} is.`,
  );
}

/** Files whose tensors are looked at to say whose they are. */
const MAX_LOOKED_AT = 5;

async function notAModel(folder: string, files: readonly ScannedFile[]): Promise<AppError> {
  const weights = files.filter(({ path }) => /^[^/]+\.(safetensors|gguf|npz|bin|pt)$/.test(path));
  for (const { path } of weights.slice(0, MAX_LOOKED_AT)) {
    const format = await recognise(folder, path);
    if (format) return foreign(format, join(folder, path));
  }
  const beside = weights.length > 0 ? ` beside ${weights[0]!.path}` : "";
  return new AppError(
    "NOT_A_MODEL",
    `${folder} has neither ${CONFIG_FILE} nor ${ADAPTER_CONFIG_FILE}${beside}: name the folder that holds the model's files, or finish the download.`,
  );
}

/** Whose file this is, by its name, tensors and metadata; `null` for PEFT's, and where it cannot be read. */
async function recognise(folder: string, path: string): Promise<ForeignFormat | null> {
  if (path.endsWith(".gguf")) return "gguf";
  // mlx-examples saved these before it used safetensors.
  if (path === "adapters.npz") return "mlx";
  if (!/\.(safetensors|bin|pt)$/.test(path)) return null;
  try {
    const { tensors, metadata } = await readWeightFile(folder, path);
    return foreignKeys(tensors.map(({ name }) => name)) ?? foreignMetadata(metadata);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return error.code === "FOREIGN_FORMAT" ? "gguf" : null;
  }
}
