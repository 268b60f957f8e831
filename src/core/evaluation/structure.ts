import { candidates } from "../adapters/names.ts";
import { type VocabularyPair, vocabularyPair } from "../adapters/ties.ts";
import { readModelFacts } from "../arch.ts";
import { type CheckpointFacts, type LocatedTensor, tensorsByName } from "../checkpoint.ts";
import { type Dtype, isMergeable } from "../dtype.ts";
import type { JsonObject } from "../json.ts";
import { type Check, isAdapterName } from "../parity.ts";
import type { Reason } from "./report.ts";
import { compareConfigs } from "./same-config.ts";

/** A tensor that the merged model must have. */
export interface WantedTensor {
  readonly tensor: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

export interface StructureInput {
  readonly wanted: readonly WantedTensor[];
  /** config.json as the merge would write it. */
  readonly config: JsonObject;
  readonly candidate: CheckpointFacts;
}

/** A tensor that must equal another one of the candidate, such as a stored copy of a tied head. */
export interface Copy {
  readonly tensor: LocatedTensor;
  readonly twin: LocatedTensor;
}

export interface Structure {
  /** By the planned name: the candidate's tensor, of the planned shape and of a type that can be compared. */
  readonly pairs: ReadonlyMap<string, LocatedTensor>;
  readonly copies: readonly Copy[];
  readonly checks: readonly Check[];
  readonly reasons: readonly Reason[];
}

/** Level 0 from headers and configs alone: is it the checkpoint that was meant? */
export function checkStructure(input: StructureInput): Structure {
  const tensors = tensorsByName(input.candidate.weights);
  const paired = pairUp(input, tensors);
  const ties = checkTies(input, { tensors, paired });
  const left = [...tensors.values()].filter(({ name }) => isLeftover(name));
  const names = checkNames(paired, { ties, left });
  const results = [adapterGone(input, left), names, ties, sameConfig(input, tensors)];
  return {
    pairs: paired.fitting,
    copies: ties.copies,
    checks: results.map(({ check }) => check),
    reasons: results.flatMap(({ reasons }) => reasons),
  };
}

/** A reason from level 0 or 1 without numbers. */
export function plainReason(
  code: string,
  level: 0 | 1,
  message: string,
  subject: string | null = null,
): Reason {
  return { code, level, message, subject, value: null, threshold: null };
}

interface Result {
  readonly check: Check;
  readonly reasons: readonly Reason[];
}

/** What a check says: a failed one in the words of its reasons. */
function result(name: string, detail: string, reasons: readonly Reason[]): Result {
  const passed = reasons.length === 0;
  const text = passed ? detail : reasons.map(({ message }) => message).join(" ");
  return { check: { level: 0, name, passed, detail: text }, reasons };
}

export const listed = (names: readonly string[]) =>
  names.slice(0, 5).join(", ") + (names.length > 5 ? `, … (${names.length} in all)` : "");

interface Paired {
  /** By the planned name. */
  readonly all: ReadonlyMap<string, LocatedTensor>;
  readonly fitting: ReadonlyMap<string, LocatedTensor>;
  readonly missing: readonly WantedTensor[];
  readonly unexpected: readonly LocatedTensor[];
  readonly shapes: readonly string[];
  readonly types: readonly string[];
  readonly cast: readonly string[];
  readonly renamed: number;
}

/** Matches names as transformers does: as they are, renamed between its versions, with or without the model's prefix. */
function pairUp({ wanted, config }: StructureInput, tensors: ReadonlyMap<string, LocatedTensor>): Paired {
  const planned = new Map(wanted.map((one) => [one.tensor, asLocated(one)]));
  const named = { base: planned, model: readModelFacts(config) };
  const all = new Map<string, LocatedTensor>();
  const unexpected: LocatedTensor[] = [];
  const own = [...tensors.values()].filter(({ name }) => !isLeftover(name));
  // Exact names first: no other reading of a name may take their place.
  for (const tensor of own) if (planned.has(tensor.name)) all.set(tensor.name, tensor);
  for (const tensor of own) {
    if (planned.has(tensor.name)) continue;
    const [only, ...more] = candidates(named, tensor.name).map((found) => found.tensor.name);
    if (only === undefined || more.length > 0 || all.has(only)) unexpected.push(tensor);
    else all.set(only, tensor);
  }
  const pairs = wanted.flatMap((one) => {
    const found = all.get(one.tensor);
    return found ? [{ one, found }] : [];
  });
  const sameShape = pairs.filter(({ one, found }) => one.shape.join() === found.shape.join());
  const castable = ({ one, found }: (typeof pairs)[number]) =>
    one.dtype === found.dtype || (isMergeable(one.dtype) && isMergeable(found.dtype));
  const fitting = sameShape.filter(castable);
  return {
    all,
    fitting: new Map(fitting.map(({ one, found }) => [one.tensor, found])),
    missing: wanted.filter(({ tensor }) => !all.has(tensor)),
    unexpected,
    shapes: pairs
      .filter((pair) => !sameShape.includes(pair))
      .map(({ one, found }) => `"${found.name}" is [${found.shape}] instead of [${one.shape}]`),
    types: sameShape
      .filter((pair) => !castable(pair))
      .map(({ one, found }) => `"${found.name}" is ${found.dtype} instead of ${one.dtype}`),
    cast: fitting
      .filter(({ one, found }) => one.dtype !== found.dtype)
      .map(({ one, found }) => `${found.dtype} instead of ${one.dtype}`),
    renamed: pairs.filter(({ one, found }) => one.tensor !== found.name).length,
  };
}

function asLocated({ tensor, dtype, shape }: WantedTensor): LocatedTensor {
  return { name: tensor, dtype, shape, begin: 0, end: 0, file: "" };
}

/** What an adapter, or PEFT's wrapping of a module, leaves behind in names. */
const isLeftover = (name: string) =>
  isAdapterName(name) || /(^|\.)(base_layer|modules_to_save|original_module)(\.|$)/.test(name);

/** Buffers that versions of transformers wrote or left out; they are computed anew when a model is loaded. */
function isBuffer({ name, shape }: { readonly name: string; readonly shape: readonly number[] }): boolean {
  return (
    /(^|\.)(rotary_emb\.inv_freq|masked_bias|position_ids|rotary_pos_emb\.inv_freq)$/.test(name) ||
    (/(^|\.)(attn|attention)\.bias$/.test(name) && shape.length === 4)
  );
}

function adapterGone({ candidate }: StructureInput, left: readonly LocatedTensor[]): Result {
  const files = candidate.files
    .map(({ path }) => path)
    .filter((path) => /(^|\/)adapter_(config|model)\./.test(path));
  const reasons =
    left.length + files.length === 0
      ? []
      : [
          plainReason(
            "ADAPTER_LEFT",
            0,
            `The candidate still holds ${left.length} tensors of an adapter or of its wrapping and ${files.length} of its files (${listed([...left.map(({ name }) => name), ...files])}): it was saved without merging, or beside its adapter. Save it after merge_and_unload, and remove the adapter's files.`,
            left[0]?.name ?? files[0]!,
          ),
        ];
  return result("no adapter is left in it", "no adapter tensor and no adapter file", reasons);
}

function checkNames(paired: Paired, { ties, left }: { ties: Ties; left: readonly LocatedTensor[] }): Result {
  const missing = paired.missing.filter(
    (one) => !ties.optional.has(one.tensor) && !isBuffer({ ...one, name: one.tensor }),
  );
  const copies = new Set(ties.copies.map(({ tensor }) => tensor.name));
  const unexpected = paired.unexpected.filter((tensor) => !copies.has(tensor.name) && !isBuffer(tensor));
  const reasons: Reason[] = [];
  if (missing.length > 0) {
    const why = left.length > 0 ? " under its own name (see what is left of the adapter)" : "";
    const names = missing.map(({ tensor }) => tensor);
    const message = `The candidate lacks ${counted(missing.length, "tensor")} of the model${why}: ${listed(names)}. A loader would fill them with random numbers. Write the checkpoint again.`;
    reasons.push(plainReason("MISSING_TENSOR", 0, message, names[0]));
  }
  if (unexpected.length > 0) {
    const names = unexpected.map(({ name }) => name);
    const message = `The candidate holds ${counted(unexpected.length, "tensor")} that base and adapter do not give: ${listed(names)}. It was made from another base or adapter, or something was added.`;
    reasons.push(plainReason("UNEXPECTED_TENSOR", 0, message, names[0]));
  }
  if (paired.shapes.length > 0) {
    const message = `The candidate has tensors of other shapes than base and adapter give: ${listed(paired.shapes)}. It was made from another base, or its vocabulary was resized.`;
    reasons.push(plainReason("SHAPE_MISMATCH", 0, message, paired.shapes[0]!.split('"')[1]));
  }
  if (paired.types.length > 0) {
    const message = `The candidate has tensors of types that cannot be compared with the planned ones: ${listed(paired.types)}. Evaluate the checkpoint before it is quantised.`;
    reasons.push(plainReason("DTYPE_MISMATCH", 0, message, paired.types[0]!.split('"')[1]));
  }
  return result("names, shapes and types are as planned", layout(paired, ties), reasons);
}

const counted = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;

function layout(paired: Paired, ties: Ties): string {
  const buffers = paired.missing.filter((one) => isBuffer({ ...one, name: one.tensor })).length;
  const kinds = [...new Set(paired.cast)];
  const notes = [
    paired.renamed > 0 &&
      `${paired.renamed} under names with another prefix or of another version of transformers`,
    paired.cast.length > 0 && `${paired.cast.length} stored as ${kinds.join(" and ")}, compared by value`,
    buffers > 0 && `${buffers} computed buffers of the base left out`,
    ties.copies.length > 0 &&
      `${ties.copies.map(({ tensor }) => tensor.name).join(", ")} stored besides, a copy of a tied tensor`,
    ties.omitted !== null && `${ties.omitted} left out, as it is tied`,
  ].filter((note) => note !== false);
  return [`${paired.all.size} tensors`, ...notes].join("; ");
}

interface Ties extends Result {
  readonly copies: readonly Copy[];
  /** Planned tensors that may be missing. */
  readonly optional: ReadonlySet<string>;
  readonly omitted: string | null;
}

/** Whether what is stored of embedding and head, and what config.json says of them, is the planned model. */
function checkTies(
  { config, candidate, wanted }: StructureInput,
  { tensors, paired }: { tensors: ReadonlyMap<string, LocatedTensor>; paired: Paired },
): Ties {
  const name = "tied weights are consistent";
  const model = readModelFacts(config);
  const planned = new Map(wanted.map((one) => [one.tensor, asLocated(one)]));
  const pair = vocabularyPair(planned, model);
  const none = { copies: [], optional: new Set<string>(), omitted: null };
  if (!pair) return { ...result(name, "no embedding and head that could be tied", []), ...none };
  const isTied = readModelFacts(candidate.config).tiedEmbeddings;
  const head = paired.all.get(pair.head) ?? unplannedHead(paired, tensors, model);
  const says = isTied ? "ties" : "does not tie";
  if (!model.tiedEmbeddings) {
    const why =
      "base and adapter give a head of its own, and the candidate's config.json ties it to the embedding: a loader would drop the head. " +
      'Store both and say tie_word_embeddings: false; where PEFT merged both sides by both changes and that is meant, evaluate with ties "peft".';
    const detail = `head and embedding are two matrices, and config.json ${says} them`;
    const reasons = isTied ? [tiesDiffer(pair, why)] : [];
    return { ...result(name, detail, reasons), ...none, optional: new Set(isTied ? [pair.head] : []) };
  }
  if (!head && !isTied) {
    const why =
      "config.json does not tie them and no head is stored: a loader would make up a random one. Store the head, or say tie_word_embeddings: true.";
    return { ...result(name, "", [tiesDiffer(pair, why)]), ...none, optional: new Set([pair.head]) };
  }
  const twin = paired.all.get(pair.embedding.name);
  const copies = head && twin && !planned.has(pair.head) ? [{ tensor: head, twin }] : [];
  return {
    ...result(name, `config.json ${says} them, the head is ${head ? "stored as well" : "not stored"}`, []),
    copies,
    optional: new Set([pair.head]),
    omitted: !head && planned.has(pair.head) ? pair.head : null,
  };
}

/** Reasons for copies of tied tensors that are none. */
export function copyReasons(copies: readonly Copy[], digestOf: (tensor: string) => string): Reason[] {
  return copies
    .filter(({ tensor, twin }) => digestOf(tensor.name) !== digestOf(twin.name))
    .map(({ tensor, twin }) =>
      plainReason(
        "TIES_DIFFER",
        0,
        `${tensor.name} is stored beside ${twin.name}, which it is tied to, and is another matrix: some versions of transformers use it, others drop it. Remove it, or untie them on purpose.`,
        tensor.name,
      ),
    );
}

/** A head that the candidate stores and the plan does not. */
function unplannedHead(
  { unexpected }: Paired,
  tensors: ReadonlyMap<string, LocatedTensor>,
  model: ReturnType<typeof readModelFacts>,
): LocatedTensor | undefined {
  const own = vocabularyPair(tensors, model);
  return unexpected.find(({ name }) => name === own?.head);
}

function tiesDiffer({ head, embedding }: VocabularyPair, why: string): Reason {
  return plainReason("TIES_DIFFER", 0, `${head} and ${embedding.name}: ${why}`, head);
}

function sameConfig(
  { wanted, config, candidate }: StructureInput,
  tensors: ReadonlyMap<string, LocatedTensor>,
): Result {
  const planned = new Map(wanted.map(({ tensor, shape, dtype }) => [tensor, { shape, dtype }]));
  const { same, detail } = compareConfigs(
    { config, tensors: planned },
    { config: candidate.config, tensors },
  );
  const message = `The candidate's config.json describes another model than the merge's: ${detail}. Take the base's config.json.`;
  const reasons = same ? [] : [plainReason("CONFIG_DIFFERS", 0, message, "config.json")];
  const text =
    detail === ""
      ? "equal in every field"
      : `equal but for fields that do not change what the weights compute: ${detail}`;
  return result("config.json describes the planned model", text, reasons);
}
