import { AppError, type Finding } from "./errors.ts";
import { compareText, type Digest, type DigestedTensor, versionDigest, weightsDigest } from "./identity.ts";
import { isJsonObject, type JsonObject } from "./json.ts";
import type { TensorHeader } from "./safetensors.ts";

export type FileRole = "WEIGHTS" | "CONFIG" | "TOKENIZER" | "CODE" | "CARRIED";

/** What is recorded of one file of a folder. */
export interface FileFacts {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly role: FileRole;
  /** `null` for weight shards (a publish needs it, a merge does not) and for large carried files. */
  readonly digest: Digest | null;
  /** The file behind all symbolic links, and what tells that it changed since; absent for files not on a disk. */
  readonly stamp?: FileStamp;
}

export interface FileStamp {
  readonly realPath: string;
  /** Nanoseconds since 1970, as decimal text: it leaves 2⁵³. */
  readonly mtimeNs: string;
  readonly inode: string;
}

/** Over the finite elements of a tensor; null where there is none, or where the dtype is not BF16, F16 or F32. */
export interface TensorStats {
  readonly absmax: number | null;
  /** Root mean square. */
  readonly rms: number | null;
  /** Elements that are NaN or infinite; 0 for dtypes without statistics. */
  readonly nonFinite: number;
}

export interface TensorFacts extends TensorHeader {
  /** Absent until the tensor was read once. */
  readonly digest?: Digest;
  readonly stats?: TensorStats;
  /** Of a `lora_B`: Frobenius norm of its product with the `lora_A` beside it, without the scale. */
  readonly updateNorm?: number;
}

/** The header of one safetensors file, with what is known of its tensors. Stored as one document a file. */
export interface WeightFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly dataStart: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of their bytes. */
  readonly tensors: readonly TensorFacts[];
  /**
   * What told the file's state apart when its tensors were digested, change time included, which a program cannot set:
   * while it is the same, the digests hold. Absent where it is not known for sure.
   */
  readonly fingerprint?: string;
}

export interface TokenizerFacts {
  /** The largest id that any tokenizer file states; `null` where none does. */
  readonly maxId: number | null;
  /** Whether a chat template is shipped, in whichever of the files. */
  readonly hasChatTemplate: boolean;
}

/** Everything that is known of a checkpoint or adapter folder without its tensor bytes. JSON-safe. */
export interface CheckpointFacts {
  readonly kind: "checkpoint" | "adapter";
  readonly files: readonly FileFacts[];
  readonly weights: readonly WeightFile[];
  /** config.json, or adapter_config.json of an adapter. */
  readonly config: JsonObject;
  /** The index file of a sharded checkpoint. */
  readonly index: { readonly path: string; readonly metadata: JsonObject } | null;
  readonly tokenizer: TokenizerFacts | null;
  /** The repository carries code (`*.py`, `auto_map`): recorded and carried, never run. */
  readonly hasCode: boolean;
}

export const CONFIG_FILE = "config.json";
export const ADAPTER_CONFIG_FILE = "adapter_config.json";
export const ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
export const SINGLE_WEIGHTS_FILE = "model.safetensors";
export const RECORD_FILE = "graftwork.json";

const CONFIG_FILES = new Set([
  CONFIG_FILE,
  ADAPTER_CONFIG_FILE,
  "generation_config.json",
  "preprocessor_config.json",
  "processor_config.json",
  "video_preprocessor_config.json",
]);
const TOKENIZER_FILES = new Set([
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
  "spiece.model",
  "sentencepiece.bpe.model",
  "chat_template.jinja",
  "chat_template.json",
]);

/** What a file is for; weights are decided by the index, not by the name. */
export function fileRole(path: string): Exclude<FileRole, "WEIGHTS"> {
  if (CONFIG_FILES.has(path)) return "CONFIG";
  if (TOKENIZER_FILES.has(path) || /^(additional_)?chat_templates\/[^/]+\.jinja$/.test(path))
    return "TOKENIZER";
  if (path.endsWith(".py")) return "CODE";
  return "CARRIED";
}

/** Licence texts follow the weights into everything derived from them. */
export function isLicenseFile(path: string): boolean {
  return /^(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)(\.(md|txt))?$/i.test(path);
}

/** The files that a version digest covers: config, generation config, tokenizer, chat template and code. */
export function isIdentityFile(file: Pick<FileFacts, "role">): boolean {
  return file.role === "CONFIG" || file.role === "TOKENIZER" || file.role === "CODE";
}

export interface VersionDigests {
  readonly weights: Digest;
  readonly version: Digest;
}

/** Digests of a folder whose tensors and identity files have all been digested. */
export function checkpointDigests(facts: Pick<CheckpointFacts, "files" | "weights">): VersionDigests {
  const weights = weightsDigest(allTensors(facts).map(withDigest));
  const files = facts.files.filter(isIdentityFile).map((file) => {
    if (file.digest === null) throw new Error(`${file.path} was not digested`);
    return { path: file.path, size: file.size, digest: file.digest };
  });
  return { weights, version: versionDigest(weights, files) };
}

function withDigest(tensor: TensorFacts): DigestedTensor {
  if (tensor.digest === undefined) throw new Error(`tensor ${tensor.name} was not digested`);
  return { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, digest: tensor.digest };
}

export function allTensors(facts: Pick<CheckpointFacts, "weights">): TensorFacts[] {
  return facts.weights.flatMap((file) => file.tensors);
}

export interface LocatedTensor extends TensorFacts {
  /** Path of the weight file, relative to the folder. */
  readonly file: string;
}

/** Tensors by name; BAD_CHECKPOINT where two shards hold the same name. */
export function tensorsByName(weights: readonly WeightFile[]): Map<string, LocatedTensor> {
  const found = new Map<string, LocatedTensor>();
  for (const file of weights) {
    for (const tensor of file.tensors) {
      const other = found.get(tensor.name);
      if (other) {
        throw new AppError(
          "BAD_CHECKPOINT",
          `tensor "${tensor.name}" stands in ${other.file} and in ${file.path}: remove one of the shards.`,
        );
      }
      found.set(tensor.name, { ...tensor, file: file.path });
    }
  }
  return found;
}

export interface ShardIndex {
  readonly metadata: JsonObject;
  /** Tensor name → shard file name. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** Shard file names, sorted. */
  readonly shards: readonly string[];
}

/** Parses `model.safetensors.index.json`; a shard name may not leave the folder. Throws BAD_INDEX. */
export function parseShardIndex(json: JsonObject, file: string): ShardIndex {
  const map = json.weight_map;
  if (!isJsonObject(map)) throw new AppError("BAD_INDEX", `${file} has no weight_map object.`);
  const weightMap = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !/^[^/\\]+\.safetensors$/.test(shard) || shard.startsWith("..")) {
      throw new AppError(
        "BAD_INDEX",
        `${file} puts tensor "${tensor}" into ${JSON.stringify(shard)}: a shard must be a .safetensors file in the same folder.`,
      );
    }
    weightMap.set(tensor, shard);
  }
  if (weightMap.size === 0) throw new AppError("BAD_INDEX", `${file} names no tensor.`);
  const metadata = isJsonObject(json.metadata) ? json.metadata : {};
  return { metadata, weightMap, shards: [...new Set(weightMap.values())].sort(compareText) };
}

/** Every difference between an index and the headers of its shards. */
export function indexProblems(index: ShardIndex, weights: readonly WeightFile[], file: string): Finding[] {
  const problems: Finding[] = [];
  const present = new Map<string, string>();
  for (const shard of weights) {
    for (const tensor of shard.tensors) {
      const other = present.get(tensor.name);
      present.set(tensor.name, shard.path);
      if (other === undefined) continue;
      problems.push({
        code: "BAD_INDEX",
        subject: tensor.name,
        message: `tensor "${tensor.name}" stands in ${other} and in ${shard.path}: loaders would take one or the other. Remove one of the shards.`,
      });
    }
  }
  for (const [tensor, shard] of index.weightMap) {
    const actual = present.get(tensor);
    if (actual === shard) continue;
    const where = actual === undefined ? "no shard holds it" : `it stands in ${actual}`;
    problems.push({
      code: "BAD_INDEX",
      subject: tensor,
      message: `${file} puts tensor "${tensor}" into ${shard}, but ${where}.`,
    });
  }
  for (const [tensor, shard] of present) {
    if (index.weightMap.has(tensor)) continue;
    problems.push({
      code: "BAD_INDEX",
      subject: tensor,
      message: `${shard} holds tensor "${tensor}", which ${file} does not name: a loader would skip it.`,
    });
  }
  return problems;
}
