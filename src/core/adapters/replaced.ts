import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { elementCount, isMergeable } from "../dtype.ts";
import type { Finding, Report } from "../errors.ts";
import { isUnset, type Json, type JsonObject } from "../json.ts";
import { type AdapterInput, orphan } from "./index.ts";
import { badField } from "./module-names.ts";
import { candidates } from "./names.ts";
import { moduleOf, withoutPrefix } from "./parts.ts";
import { embeddingOf, type VocabularyPair } from "./ties.ts";

/**
 * What a tensor of an adapter file is that belongs to no formula:
 * "copy" takes the place of a base tensor before anything is changed; "whole" is part of a module that was trained as a
 * whole; "rows" are rows of an embedding.
 */
export type Role = "copy" | "whole" | "rows";

export interface CarriedTensor {
  readonly role: Role;
  readonly module: string;
  readonly leaf: string;
  readonly tensor: TensorFacts;
  /** The tensor it replaces; `null` for a module that the base lacks. */
  readonly place: LocatedTensor | null;
}

/** Task types whose PEFT model saves the head of its classifier without being told. */
const IMPLIED: Readonly<Record<string, readonly string[]>> = {
  SEQ_CLS: ["classifier", "score"],
  TOKEN_CLS: ["classifier", "score"],
  QUESTION_ANS: ["qa_outputs"],
};

/** Names of modules that were saved as a whole. */
export interface SavedNames {
  readonly stated: readonly string[];
  /** By the task; where the base has no such module, PEFT saves none. */
  readonly implied: readonly string[];
}

/** Reads `modules_to_save`, a list; BAD_ADAPTER_CONFIG for anything else. */
export function savedNames(config: JsonObject, report: Report): SavedNames {
  const { modules_to_save: value, task_type: task } = config;
  const implied = typeof task === "string" && Object.hasOwn(IMPLIED, task) ? IMPLIED[task]! : [];
  if (isUnset(value)) return { stated: [], implied };
  const isNames =
    Array.isArray(value) && value.every((name: Json) => typeof name === "string" && name !== "");
  if (!isNames) report(badField("modules_to_save", value, "a list of names"));
  return { stated: isNames ? (value as string[]) : [], implied };
}

/**
 * The module that was saved as a whole and that this module is, or lies in; `null` where none was. PEFT compares the end
 * of a module's name as text: `head` means `lm_head` as well.
 */
export function savedModule(module: string, names: readonly string[]): string | null {
  const parts = module.split(".");
  for (let i = 1; i <= parts.length; i++) {
    const ancestor = parts.slice(0, i).join(".");
    if (names.some((name) => name !== "" && ancestor.endsWith(name))) return ancestor;
  }
  return null;
}

const ROWS = /^(.+?)(?:\.token_adapter)?(?:\.base_layer)*\.trainable_tokens_delta$/;
const COPY = /^(.+?)(?:\.token_adapter)?(?:\.base_layer)+\.(weight|bias)$/;
/** Of kinds whose parts are named as tensors of a layer are. */
const OF_A_KIND = /\.(ln_tuning_layers|lora_[^.]*|ia3_[^.]*|[a-z]+_[A-Z][^.]*)\.(weight|bias)$/;

export interface CarriedRequest {
  readonly input: AdapterInput;
  readonly names: SavedNames;
}

/** What an adapter tensor is; `null` where it belongs to the kind's formula, or to nothing. */
export function carriedTensor({ input, names }: CarriedRequest, tensor: TensorFacts): CarriedTensor | null {
  const key = withoutPrefix(tensor.name.replace(/\.default(\.weight|\.bias)?$/, "$1"));
  const rows = ROWS.exec(key);
  if (rows) return carried("rows", { input, tensor, path: rows[1]!, leaf: "weight" });
  const copy = COPY.exec(key);
  if (copy) return carried("copy", { input, tensor, path: copy[1]!, leaf: copy[2]! });
  if (!key.includes(".") || OF_A_KIND.test(key)) return null;
  // Files of the first PEFT versions say where the module was in memory.
  const plain = key.replace(/\.modules_to_save(\.default)?(?=\.)/, "");
  const path = plain.slice(0, plain.lastIndexOf("."));
  const leaf = plain.slice(path.length + 1);
  const found = carried("copy", { input, tensor, path, leaf });
  const saved = savedModule(found.module, [...names.stated, ...names.implied]);
  if (plain !== key || saved !== null) {
    // Where the base has the module and not this tensor of it, it may be a factor: the kind, or the check after it, knows.
    const lacks = found.place === null && plain === key && hasModule(input.base, saved!);
    if (lacks && !isOfTiedHead(input, tensor)) return null;
    return { ...found, role: "whole" };
  }
  return found.place === null ? null : found;
}

interface Read {
  readonly input: AdapterInput;
  readonly tensor: TensorFacts;
  readonly path: string;
  readonly leaf: string;
}

function carried(role: Role, { input, tensor, path, leaf }: Read): CarriedTensor {
  const module = moduleOf(path, input);
  const found = candidates(input, `${module}.${leaf}`);
  return { role, module, leaf, tensor, place: found.length === 1 ? found[0]!.tensor : null };
}

/** Of a head below a module that was saved as a whole: tied, it is not stored, neither its weight nor its bias. */
function isOfTiedHead({ base, model }: AdapterInput, { name, shape }: TensorFacts): boolean {
  const embedding = model.tiedEmbeddings ? embeddingOf(base) : null;
  if (!embedding) return false;
  const leaves = { weight: embedding.shape, bias: embedding.shape.slice(0, 1) };
  return Object.entries(leaves).some(
    ([leaf, expected]) => name.endsWith(`.${leaf}`) && shape.join() === expected.join(),
  );
}

const hasModule = (base: AdapterInput["base"], module: string) =>
  [...base.keys()].some((name) => name.startsWith(`${module}.`) || name.includes(`.${module}.`));

/** Why a tensor cannot take the place it is meant for. */
export function replacementProblem(
  { tensor, place, module, leaf }: CarriedTensor,
  pair: VocabularyPair | null,
): Finding | null {
  const say = (code: string, message: string): Finding => ({ code, subject: tensor.name, message });
  if (!isMergeable(tensor.dtype)) {
    return say(
      "UNSUPPORTED_DTYPE",
      `adapter tensor "${tensor.name}" is ${tensor.dtype}: it must be F32, F16 or BF16.`,
    );
  }
  if (!place) return null;
  if (!isMergeable(place.dtype)) {
    return say(
      "UNSUPPORTED_BASE_DTYPE",
      `base tensor "${place.name}" is ${place.dtype}, and the adapter replaces it: merge into a BF16, F16 or F32 checkpoint of this model.`,
    );
  }
  if (tensor.shape.join() === place.shape.join()) return null;
  const [, ...inner] = place.shape;
  const resized =
    isOfVocabulary(pair, place.name, `${module}.${leaf}`) && tensor.shape.slice(1).join() === inner.join();
  if (resized && tensor.shape.length === place.shape.length && tensor.shape[0]! > 0) return null;
  return say(
    "SHAPE_MISMATCH",
    `adapter tensor "${tensor.name}" is [${tensor.shape}] and replaces ${place.name}, which is [${place.shape}]: name the base that the adapter was trained on.`,
  );
}

/** Tensors with a row for each token: the embedding, the head and the head's bias. */
export function isOfVocabulary(pair: VocabularyPair | null, ...names: string[]): boolean {
  if (!pair)
    return names.some((name) => /(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$/.test(name));
  const bias = pair.head.replace(/weight$/, "bias");
  return names.some((name) => name === pair.embedding.name || name === pair.head || name === bias);
}

/** Counters of batch normalisation, which no forward pass reads. */
const COUNTER = /(^|\.)num_batches_tracked$/;
export const isCounter = ({ leaf }: CarriedTensor) => COUNTER.test(leaf);

export interface WholeCheck {
  readonly base: AdapterInput["base"];
  readonly names: SavedNames;
  readonly whole: readonly CarriedTensor[];
  /** Tensors that may be absent: a tied head is stored as the embedding. */
  readonly optional: ReadonlySet<string>;
}

/** Tensors of modules that were saved as a whole and for which the file has nothing. */
export function missingOfWhole({ base, names, whole, optional }: WholeCheck): Finding[] {
  const present = new Set(whole.map(({ place }) => place?.name));
  const modules = new Map(
    whole.map((one) => [savedModule(one.module, [...names.stated, ...names.implied]), one]),
  );
  const missing: Finding[] = [];
  for (const name of base.keys()) {
    if (present.has(name) || optional.has(name) || COUNTER.test(name)) continue;
    const module = savedModule(name.slice(0, name.lastIndexOf(".")), names.stated);
    if (module === null && !inOneOf(name, modules)) continue;
    missing.push({
      code: "MISSING_TENSOR",
      subject: name,
      message: `the adapter saved the module of base tensor "${name}" as a whole (modules_to_save), but its file holds nothing for it: the file is incomplete, save it again.`,
    });
  }
  return missing;
}

/** Whether a base tensor lies in a module of which the file has other tensors. */
function inOneOf(name: string, modules: ReadonlyMap<string | null, CarriedTensor>): boolean {
  for (const [module, one] of modules) {
    if (module === null || !one.place) continue;
    const inner = `${one.module}.${one.leaf}`.slice(module.length);
    if (!one.place.name.endsWith(inner)) continue;
    if (name.startsWith(`${one.place.name.slice(0, -inner.length)}.`)) return true;
  }
  return false;
}

/** Refuses a second tensor for the same place, unless it holds the same bytes. */
export function duplicate(first: TensorFacts, second: TensorFacts, report: Report): void {
  if (sameBytes(first, second)) return;
  report(orphan(second.name, `"${first.name}" takes the same place with other bytes`));
}

/** By digest; tensors that were not digested are not known to be the same. */
export function sameBytes(a: TensorFacts, b: TensorFacts): boolean {
  return (
    a.digest !== undefined &&
    a.digest === b.digest &&
    a.dtype === b.dtype &&
    a.shape.join() === b.shape.join()
  );
}

/** The dtype that holds most of the base's numbers: a module that the base lacks is stored like the rest. */
export function mainDtype(base: AdapterInput["base"]) {
  const counts = new Map<LocatedTensor["dtype"], number>();
  for (const { dtype, shape } of base.values()) {
    if (isMergeable(dtype)) counts.set(dtype, (counts.get(dtype) ?? 0) + elementCount(shape));
  }
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  return most?.[0] ?? "F32";
}
