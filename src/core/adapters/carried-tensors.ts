import type { TensorFacts } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import type { AdapterInput } from "./index.ts";
import {
  type CarriedTensor,
  carriedTensor,
  duplicate,
  isCounter,
  isOfVocabulary,
  missingOfWhole,
  replacementProblem,
  savedNames,
} from "./replaced.ts";
import { type TiedPair, type VocabularyPair, vocabularyPair } from "./ties.ts";
import { missingTokenRows, readTokenRows, type TokenRows } from "./tokens.ts";

/** Everything of one file that is not a factor. */
export interface Carried {
  /** Tensors that the kind reads. */
  readonly rest: TensorFacts[];
  /** By the tensor they take the place of. */
  readonly copies: Map<string, CarriedTensor>;
  /** Modules as a whole, by the output tensor. */
  readonly whole: Map<string, CarriedTensor>;
  readonly rows: Map<string, TokenRows>;
  /** What holds the same bytes as another one, or nothing that a merge needs. */
  readonly ignored: Set<string>;
  readonly problems: Finding[];
  readonly warnings: Finding[];
}

/** Sorts an adapter's tensors into what the kind reads and what takes the place of something. */
export function sortTensors(input: AdapterInput, pair: TiedPair | null): Carried {
  const carried: Carried = {
    rest: [],
    copies: new Map(),
    whole: new Map(),
    rows: new Map(),
    ignored: new Set(),
    problems: [],
    warnings: [],
  };
  const names = savedNames(input.config, (finding) => carried.problems.push(finding));
  const vocabulary = pair ?? vocabularyPair(input.base, input.model);
  const report = (finding: Finding) => carried.problems.push(finding);
  const all: CarriedTensor[] = [];
  const unstated: string[] = [];
  const inFile = new Set(input.tensors.map(({ name }) => name));
  for (const tensor of input.tensors) {
    if (isReplaced(tensor.name, inFile)) {
      carried.ignored.add(tensor.name);
      continue;
    }
    const one = carriedTensor({ input, names }, tensor);
    if (!one || (one.role !== "whole" && !one.place)) carried.rest.push(tensor);
    else if (isCounter(one)) carried.ignored.add(tensor.name);
    else {
      all.push(one);
      const problem = one.role === "rows" ? null : replacementProblem(one, vocabulary);
      if (problem) report(problem);
      else if (one.role === "rows") takeRows(one, { carried, input });
      else take(one, carried);
      if (one.role === "copy" && isUnstated(one, vocabulary)) unstated.push(one.place!.name);
    }
  }
  const optional = new Set(pair ? [pair.embedding.name, pair.head] : []);
  const whole = all.filter(({ role }) => role === "whole");
  carried.problems.push(
    ...missingOfWhole({ base: input.base, names, whole, optional }),
    ...missingTokenRows({
      config: input.config,
      modules: all.filter(({ role }) => role === "rows").map(({ module }) => module),
      tiedHead: pair && moduleName(pair.head),
    }),
    ...unequalVocabulary(carried, vocabulary, input.config),
  );
  if (unstated.length > 0) carried.warnings.push(unstatedWarning(unstated));
  const added = [...carried.whole.values()].filter(({ place }) => place === null);
  if (added.length > 0) carried.warnings.push(addedWarning(added));
  return carried;
}

const ORIGINAL = /\.original_module(?:\.default)?(?=\.)/;

/**
 * What a module that was saved as a whole was before: PEFT drops it. With `bias: "all"` the file holds its bias all the
 * same, as every tensor whose name says "bias".
 */
function isReplaced(name: string, inFile: ReadonlySet<string>): boolean {
  if (!ORIGINAL.test(name)) return false;
  const saved = ["", ".modules_to_save", ".modules_to_save.default"];
  return saved.some((infix) => inFile.has(name.replace(ORIGINAL, infix)));
}

/** Of a tensor, by its name. */
export const moduleName = (tensor: string) => tensor.slice(0, tensor.lastIndexOf("."));

/** A whole tensor that neither the config nor PEFT's own rules explain; PEFT loads it all the same. */
function isUnstated(
  { tensor, leaf, place }: CarriedTensor,
  pair: TiedPair | null | ReturnType<typeof vocabularyPair>,
) {
  return leaf !== "bias" && !/\.base_layer\./.test(tensor.name) && !isOfVocabulary(pair, place!.name);
}

function unstatedWarning(names: readonly string[]): Finding {
  return {
    code: "REPLACES_UNSTATED",
    subject: names[0]!,
    message: `the adapter file holds ${names.length} base tensors as a whole that adapter_config.json does not name (${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}): they replace the base's, as PEFT loads them.`,
  };
}

function addedWarning(added: readonly CarriedTensor[]): Finding {
  const names = added.map(({ module, leaf }) => `${module}.${leaf}`);
  return {
    code: "ADDS_TENSORS",
    subject: names[0]!,
    message: `the base has no ${names.join(", ")}: the output gains what the adapter saved (modules_to_save). Load it with the class that the adapter was trained with.`,
  };
}

function take(one: CarriedTensor, carried: Carried): void {
  const [map, name] =
    one.role === "copy"
      ? [carried.copies, one.place!.name]
      : [carried.whole, one.place?.name ?? `${one.module}.${one.leaf}`];
  const before = map.get(name);
  if (!before) map.set(name, one);
  else {
    duplicate(before.tensor, one.tensor, (finding) => carried.problems.push(finding));
    carried.ignored.add(one.tensor.name);
  }
}

function takeRows(one: CarriedTensor, { carried, input }: { carried: Carried; input: AdapterInput }): void {
  const report = (finding: Finding) => carried.problems.push(finding);
  const place = one.place!;
  const before = carried.rows.get(place.name);
  if (before) {
    duplicate(before.to, one.tensor, report);
    carried.ignored.add(one.tensor.name);
    return;
  }
  // Rows that training added lie beyond the base's own: the adapter's copy of the matrix has them.
  const grown = input.tensors.find(({ name }) => name !== one.tensor.name && copyOf(name, one.module));
  const shape = grown && grown.shape.length === place.shape.length ? grown.shape : place.shape;
  const rows = readTokenRows(
    { module: one.module, place: { ...place, shape }, to: one.tensor, config: input.config },
    report,
  );
  if (rows) carried.rows.set(place.name, rows);
  else carried.ignored.add(one.tensor.name);
}

const copyOf = (name: string, module: string) =>
  name.endsWith(`.${module}.base_layer.weight`) ||
  name.endsWith(`.${module}.token_adapter.base_layer.weight`) ||
  name.endsWith(`.${module}.weight`);

/** Both sides of a pair have a row for each token, so neither grows alone. */
function unequalVocabulary(
  carried: Carried,
  pair: VocabularyPair | null,
  config: AdapterInput["config"],
): Finding[] {
  if (!pair) return [];
  const rowsOf = (name: string, fallback: number | undefined) =>
    (carried.whole.get(name) ?? carried.copies.get(name))?.tensor.shape[0] ?? fallback;
  const before = pair.embedding.shape[0];
  const [embedding, head] = [rowsOf(pair.embedding.name, before), rowsOf(pair.head, undefined)];
  // A tied head grows with the embedding, unless the embedding was trained as a whole and left it behind.
  const follows =
    "stored" in pair && (!carried.whole.has(pair.embedding.name) || config.ensure_weight_tying === true);
  const other = head ?? (follows ? embedding : before);
  if (embedding === other) return [];
  return [
    {
      code: "VOCABULARY_MISMATCH",
      subject: pair.head,
      message: `with this adapter ${pair.embedding.name} has ${embedding} rows and ${pair.head} has ${other}: the file holds only one side of a resized vocabulary. Save the adapter again with save_embedding_layers=True.`,
    },
  ];
}
