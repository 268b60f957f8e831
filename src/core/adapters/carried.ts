import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import { base as baseLeaf, type Expr, type Leaf, round, setRows, source } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import type { AdapterInput, AdapterTarget, ParsedAdapter } from "./index.ts";
import {
  type CarriedTensor,
  carriedTensor,
  duplicate,
  isCounter,
  isOfVocabulary,
  mainDtype,
  missingOfWhole,
  replacementProblem,
  sameBytes,
  savedNames,
} from "./replaced.ts";
import { type Replication, replicate } from "./replication.ts";
import { replaceLeaves } from "./rewrite.ts";
import { type TiedPair, tiedPair, vocabularyPair, WHOLE_MODULE } from "./ties.ts";
import { missingTokenRows, readTokenRows, type TokenRows } from "./tokens.ts";

/*
 * What adapters of every kind carry besides their factors: whole modules, copies of base tensors, rows of embeddings.
 * All of it is taken from the file before the kind reads it, and put around the kind's expressions afterwards, so that a
 * kind sees modules and factors only. The same view shows the kind a tied head and replicated layers as tensors.
 */

/** Fields that are dealt with here, and that a kind need not know. */
const FIELDS = ["modules_to_save", "trainable_token_indices", "layer_replication", "ensure_weight_tying"];

/** Everything of one file that is not a factor. */
interface Carried {
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

/** Reads an adapter with a kind's parser, and adds what it carries besides. */
export function parseCarrying(
  parse: (input: AdapterInput) => ParsedAdapter,
  input: AdapterInput,
): ParsedAdapter {
  const problems: Finding[] = [];
  const replication = replicate(
    { adapter: input.config, base: input.base, config: input.baseConfig ?? {} },
    (finding) => problems.push(finding),
  );
  const seen = replication?.base ?? input.base;
  const pair = tiedPair(seen, input.model);
  const named = { ...input, base: withHead(seen, pair) };
  const carried = sort(named, pair);
  shareCopies(carried, pair, input.config);
  const tied = pair && tieFactors({ carried, pair, input: named });
  const view = viewOf(named.base, carried);
  const parsed = parse({
    ...input,
    base: view,
    tensors: carried.rest,
    config: kindConfig(input, tied),
    // The view shows both sides; what becomes of the tie is decided with all targets known, by `settleTies`.
    model: { ...input.model, tiedEmbeddings: false },
  });
  const own = ownTargets({ carried, pair, base: named.base, source: input.source, input });
  // A kind without factors has nothing to say where there is something else.
  const lacksFactors = parsed.targets.length === 0 && carried.rest.length === 0 && own.length > 0;
  const kindProblems = lacksFactors
    ? parsed.problems.filter(({ code }) => code !== "NO_TARGET")
    : parsed.problems;
  problems.push(...carried.problems, ...kindProblems);
  const warnings = [...carried.warnings, ...(tied?.warnings ?? []), ...parsed.warnings];
  const ignored = new Set([...(parsed.ignored ?? []), ...carried.ignored]);
  const start = pair && carried.copies.get(pair.embedding.name);
  if (parsed.targets.length === 0 && kindProblems.length > 0)
    return { targets: [], problems, warnings, ignored };
  const changed = parsed.targets.map((target) => ({
    ...target,
    expr: startingFrom(target.expr, { carried, source: input.source }),
  }));
  const targets = tied?.shared ? withTiedHead(changed, pair!) : changed;
  const all = addOwn(targets, own, (finding) => problems.push(finding));
  const place = { input, named: named.base, view, replication, pair };
  return {
    ...parsed,
    targets: all.map((target) => placed(target, place)),
    problems,
    warnings,
    ignored,
    ...(replication && { tensors: replication.origins, config: { ...parsed.config, ...replication.config } }),
    ...(start && { start: source(input.source, start.tensor.name) }),
  };
}

/** A tied head, which a checkpoint does not store, as a tensor of its own that starts from the embedding. */
function withHead(base: AdapterInput["base"], pair: TiedPair | null): AdapterInput["base"] {
  if (pair?.stored !== "no") return base;
  return new Map([...base, [pair.head, { ...pair.embedding, name: pair.head }]]);
}

function sort(input: AdapterInput, pair: TiedPair | null): Carried {
  const carried: Carried = {
    rest: [],
    copies: new Map(),
    whole: new Map(),
    rows: new Map(),
    ignored: new Set(),
    problems: [],
    warnings: [],
  };
  const names = savedNames(input.config);
  const vocabulary = pair ?? vocabularyPair(input.base, input.model);
  const report = (finding: Finding) => carried.problems.push(finding);
  const all: CarriedTensor[] = [];
  const unstated: string[] = [];
  for (const tensor of input.tensors) {
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
    ...unequalVocabulary(carried, vocabulary),
  );
  if (unstated.length > 0) carried.warnings.push(unstatedWarning(unstated));
  const added = [...carried.whole.values()].filter(({ place }) => place === null);
  if (added.length > 0) carried.warnings.push(addedWarning(added));
  return carried;
}

const moduleName = (tensor: string) => tensor.slice(0, tensor.lastIndexOf("."));

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
}

const copyOf = (name: string, module: string) =>
  name.endsWith(`.${module}.base_layer.weight`) ||
  name.endsWith(`.${module}.token_adapter.base_layer.weight`) ||
  name.endsWith(`.${module}.weight`);

/** Both sides of a pair have a row for each token, so neither grows alone. */
function unequalVocabulary(carried: Carried, pair: ReturnType<typeof vocabularyPair>): Finding[] {
  if (!pair) return [];
  const rowsOf = (name: string, fallback: number | undefined) =>
    (carried.whole.get(name) ?? carried.copies.get(name))?.tensor.shape[0] ?? fallback;
  const before = pair.embedding.shape[0];
  const [embedding, head] = [rowsOf(pair.embedding.name, before), rowsOf(pair.head, undefined)];
  const other = head ?? ("stored" in pair ? embedding : before);
  if (embedding === other) return [];
  return [
    {
      code: "VOCABULARY_MISMATCH",
      subject: pair.head,
      message: `with this adapter ${pair.embedding.name} has ${embedding} rows and ${pair.head} has ${other}: the file holds only one side of a resized vocabulary. Save the adapter again with save_embedding_layers=True.`,
    },
  ];
}

/** Of a tied pair the adapter's copies are copies of one matrix, whichever side they were saved for. */
function shareCopies(carried: Carried, pair: TiedPair | null, config: JsonObject): void {
  if (!pair) return;
  const { copies, whole } = carried;
  const ensured = config.ensure_weight_tying === true;
  const names = [pair.embedding.name, pair.head];
  // PEFT drops a tied side from modules_to_save and saves it all the same.
  if (ensured && names.some((name) => whole.has(name))) {
    for (const name of names) {
      const copy = copies.get(name);
      if (copy) whole.set(name, { ...copy, role: "whole" });
      copies.delete(name);
    }
  }
  for (const [map, together] of [
    [copies, true],
    [whole, ensured],
  ] as const) {
    const [embedding, head] = names.map((name) => map.get(name));
    if (embedding && head) {
      if (sameBytes(embedding.tensor, head.tensor)) {
        map.set(pair.head, { ...embedding, module: head.module });
        if (head.tensor.name !== embedding.tensor.name) carried.ignored.add(head.tensor.name);
      } else if (together) carried.problems.push(copiesDiffer(embedding.tensor, head.tensor));
    } else if (together && (embedding ?? head)) {
      for (const name of names) map.set(name, (embedding ?? head)!);
    }
  }
  shareRows(carried, pair, config);
}

function copiesDiffer(embedding: TensorFacts, head: TensorFacts): Finding {
  return {
    code: "TIED_COPIES_DIFFER",
    subject: head.name,
    message: `adapter tensors "${embedding.name}" and "${head.name}" are copies of one tied matrix and are not the same: which one training used cannot be told. Save the adapter again from the trained model.`,
  };
}

/** Rows of a tied embedding are rows of the head as well, unless the head has its own. */
function shareRows({ rows, ignored, problems }: Carried, pair: TiedPair, config: JsonObject): void {
  const [embedding, head] = [rows.get(pair.embedding.name), rows.get(pair.head)];
  if (!embedding) return;
  if (!head) rows.set(pair.head, embedding);
  else if (embedding.rows.join() === head.rows.join() && sameBytes(embedding.to, head.to)) {
    rows.set(pair.head, { ...embedding, module: head.module });
    ignored.add(head.to.name);
  } else if (config.peft_type === "TRAINABLE_TOKENS" || config.ensure_weight_tying === true) {
    problems.push(copiesDiffer(embedding.to, head.to));
  }
}

interface TiedFactors {
  /** The head takes the embedding's change: its own factors are the same ones, transposed. */
  readonly shared: boolean;
  /** Module of the head, to be targeted beside what the config names. */
  readonly head: string | null;
  readonly warnings: Finding[];
}

/**
 * With `ensure_weight_tying` PEFT stores the embedding's factors a second time, transposed, for the head, without naming
 * the head in target_modules, and its merge adds the one change twice to the one matrix.
 */
function tieFactors({
  carried,
  pair,
  input,
}: {
  carried: Carried;
  pair: TiedPair;
  input: AdapterInput;
}): TiedFactors | null {
  if (input.config.ensure_weight_tying !== true) return null;
  const [embedding, head] = [moduleName(pair.embedding.name), moduleName(pair.head)];
  const of = (module: string) =>
    carried.rest.filter(({ name }) => name.includes(`.${module}.`) || name.startsWith(`${module}.`));
  const second = of(head);
  if (second.length === 0 || of(embedding).length === 0) return null;
  if (input.ties === "peft") return { shared: false, head, warnings: [] };
  for (const tensor of second) carried.ignored.add(tensor.name);
  carried.rest.splice(0, carried.rest.length, ...carried.rest.filter((tensor) => !second.includes(tensor)));
  const message =
    `the adapter keeps ${embedding} and ${head} tied (ensure_weight_tying) and holds the one change twice: it is added once, as the adapted model computes it. ` +
    'PEFT\'s merge adds it twice; ties "peft" does the same.';
  return { shared: true, head: null, warnings: [{ code: "TIED_CHANGE_ONCE", subject: head, message }] };
}

/** The config without the fields that are dealt with here. */
function kindConfig({ config }: AdapterInput, tied: TiedFactors | null): JsonObject {
  const rest = Object.fromEntries(Object.entries(config).filter(([field]) => !FIELDS.includes(field)));
  const biases = config.bias === "all" || config.bias === "lora_only" || /_only$/.test(String(config.bias));
  if (biases) delete rest.bias;
  if (!tied?.head) return rest;
  const targets = config.target_modules;
  if (typeof targets === "string") rest.target_modules = `(?:${targets})|${tied.head.replaceAll(".", "\\.")}`;
  else if (Array.isArray(targets)) rest.target_modules = [...targets, tied.head];
  return rest;
}

/** The base as the kind sees it: without modules that were saved as a whole, which PEFT does not adapt, copies for tensors. */
function viewOf(base: AdapterInput["base"], { copies, whole }: Carried): AdapterInput["base"] {
  if (copies.size === 0 && whole.size === 0) return base;
  const view = new Map(base);
  for (const name of whole.keys()) view.delete(name);
  for (const [name, { tensor }] of copies) view.set(name, { ...base.get(name)!, shape: tensor.shape });
  return view;
}

/** The adapter's copies take the place of base tensors, in the base's type. */
function startingFrom(expr: Expr, { carried, source: from }: { carried: Carried; source: number }): Expr {
  if (carried.copies.size === 0) return expr;
  return replaceLeaves(expr, (leaf: Leaf) => {
    const copy = leaf.op === "base" ? carried.copies.get(leaf.tensor) : undefined;
    return copy ? round(source(from, copy.tensor.name)) : leaf;
  });
}

interface OwnRequest {
  readonly carried: Carried;
  readonly pair: TiedPair | null;
  readonly base: AdapterInput["base"];
  readonly source: number;
  readonly input: AdapterInput;
}

/** Targets of what is carried, each as if the kind changed nothing there. */
function ownTargets({ carried, source: from }: OwnRequest): AdapterTarget[] {
  const plain = { rank: null, alpha: null, scale: null };
  const targets = new Map<string, AdapterTarget>();
  for (const [tensor, { module, leaf, tensor: copy }] of carried.copies) {
    const change = leaf === "bias" ? "bias" : "copy of the base";
    targets.set(tensor, { ...plain, tensor, module, change, expr: source(from, copy.name) });
  }
  for (const [tensor, { module, tensor: saved }] of carried.whole) {
    targets.set(tensor, { ...plain, tensor, module, change: WHOLE_MODULE, expr: source(from, saved.name) });
  }
  for (const [tensor, { module, rows, to }] of carried.rows) {
    const start = targets.get(tensor);
    if (start?.change === WHOLE_MODULE) {
      carried.problems.push(rowsBeside(module, "saves it as a whole too (modules_to_save)"));
    }
    const expr = setRows(start?.expr ?? baseLeaf(tensor), rows, source(from, to.name));
    targets.set(tensor, { ...plain, tensor, module, change: TOKEN_ROWS, expr });
  }
  return [...targets.values()];
}

const TOKEN_ROWS = "token rows";

function rowsBeside(module: string, what: string): Finding {
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: module,
    message: `the adapter trains single tokens of ${module} and ${what}: PEFT cannot apply both, so the file or its config is not what training used.`,
  };
}

/** The kind's targets, and of what is carried that which no target starts from. */
function addOwn(
  targets: readonly AdapterTarget[],
  own: readonly AdapterTarget[],
  report: (finding: Finding) => void,
): AdapterTarget[] {
  const adapted = new Set(targets.map(({ tensor }) => tensor));
  for (const { tensor, module, change } of own) {
    if (adapted.has(tensor) && change === TOKEN_ROWS)
      report(rowsBeside(module, "changes all of them by its factors"));
  }
  return [...targets, ...own.filter(({ tensor }) => !adapted.has(tensor))];
}

/** The head with the embedding's change: one matrix in training. */
function withTiedHead(targets: readonly AdapterTarget[], pair: TiedPair): AdapterTarget[] {
  const embedding = targets.find(({ tensor }) => tensor === pair.embedding.name);
  if (!embedding || targets.some(({ tensor }) => tensor === pair.head)) return [...targets];
  return [...targets, { ...embedding, tensor: pair.head, module: moduleName(pair.head) }];
}

interface Placing {
  readonly input: AdapterInput;
  readonly named: AdapterInput["base"];
  readonly view: AdapterInput["base"];
  readonly replication: Replication | null;
  readonly pair: TiedPair | null;
}

/** A target as the rest of the plan needs it: leaves by the base's names, shape and dtype where the base lacks them. */
function placed(target: AdapterTarget, { input, named, view, replication, pair }: Placing): AdapterTarget {
  const expr = replaceLeaves(target.expr, (leaf) => {
    if (leaf.op !== "base") return leaf;
    const seen =
      pair && pair.stored === "no" && leaf.tensor === pair.head ? pair.embedding.name : leaf.tensor;
    const origin = replication?.origins.get(seen) ?? seen;
    return origin === leaf.tensor ? leaf : baseLeaf(origin);
  });
  const before = named.get(target.tensor);
  const shape = target.shape ?? shapeOf(target, { input, view, before });
  const isNew = !before || (pair?.stored === "no" && target.tensor === pair.head);
  if (!isNew && before.shape.join() === shape.join()) return { ...target, expr };
  return { ...target, expr, shape, dtype: target.dtype ?? before?.dtype ?? mainDtype(input.base) };
}

interface Seen {
  readonly input: AdapterInput;
  readonly view: AdapterInput["base"];
  readonly before: LocatedTensor | undefined;
}

/** A replacement has its own shape, rows those of what they are put into, and a change that of what the kind saw. */
function shapeOf({ tensor, expr }: AdapterTarget, { input, view, before }: Seen): readonly number[] {
  const whole = expr.op === "set-rows" ? expr.of : expr;
  if (whole.op === "source") return input.tensors.find(({ name }) => name === whole.tensor)!.shape;
  const seen = view.get(tensor) ?? before;
  if (!seen) throw new Error(`${tensor} is new and has no shape`);
  return seen.shape;
}
