import type { LocatedTensor } from "../checkpoint.ts";
import type { Finding, Report } from "../errors.ts";
import { base as baseLeaf, type Expr, type Leaf, mapLeaves, round, setRows, source } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { type Carried, sortTensors } from "./carried-tensors.ts";
import { shareCopies, type TiedFactors, tieFactors, withHead, withTiedHead } from "./carried-ties.ts";
import type { AdapterInput, AdapterTarget, ParsedAdapter } from "./index.ts";
import { findTensor } from "./parts.ts";
import { mainDtype } from "./replaced.ts";
import { type Replication, replicate } from "./replication.ts";
import { type TiedPair, tiedPair, WHOLE_MODULE } from "./ties.ts";

/*
 * What adapters of every kind carry besides their factors: whole modules, copies of base tensors, rows of embeddings.
 * All of it is taken from the file before the kind reads it, and put around the kind's expressions afterwards, so that a
 * kind sees modules and factors only. The same view shows the kind a tied head and replicated layers as tensors.
 */

/** Fields that are dealt with here, and that a kind need not know: of every kind, and of LoRA. */
const FIELDS = ["modules_to_save"];
const LORA_FIELDS = ["trainable_token_indices", "layer_replication", "ensure_weight_tying"];

/** Reads an adapter with a kind's parser, and adds what it carries besides. */
export function parseCarrying(
  parse: (input: AdapterInput) => ParsedAdapter,
  given: AdapterInput,
): ParsedAdapter {
  const problems: Finding[] = [];
  const report = (finding: Finding) => problems.push(finding);
  const input = givenKind(given);
  const { base, config, model } = input;
  const replication = replicate({ adapter: config, base, config: input.baseConfig ?? {} }, report);
  const pair = tiedPair(replication?.base ?? base, model);
  const named = { ...input, base: withHead(replication?.base ?? base, pair) };
  const carried = sortTensors(named, pair);
  shareCopies(carried, pair, config);
  const tied = pair && tieFactors({ carried, pair, input: named });
  const view = viewOf(named.base, carried);
  const parsed = parse({
    ...input,
    base: view,
    tensors: carried.rest,
    config: kindConfig(given.config, tied),
    // The view shows both sides; what becomes of the tie is decided with all targets known, by `settleTies`.
    model: { ...model, tiedEmbeddings: false },
  });
  const own = ownTargets(carried, input.source);
  // A kind without factors has nothing to say where there is something else.
  const alone = parsed.targets.length === 0 && carried.rest.length === 0 && own.length > 0;
  const said = alone ? parsed.problems.filter(({ code }) => code !== "NO_TARGET") : parsed.problems;
  problems.push(...carried.problems, ...said);
  const warnings = [...carried.warnings, ...(tied?.warnings ?? []), ...parsed.warnings];
  const ignored = new Set([...(parsed.ignored ?? []), ...carried.ignored]);
  if (parsed.targets.length === 0 && said.length > 0) return { targets: [], problems, warnings, ignored };
  problems.push(...missingBiases({ ...named, base: view }, carried, parsed.targets));
  const changed = startingFromCopies(parsed.targets, carried, input.source);
  const all = addOwn(tied?.shared ? withTiedHead(changed, pair!) : changed, own, report);
  const place = { input, named: named.base, view, replication, pair };
  const start = pair && carried.copies.get(pair.embedding.name);
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

const isLora = ({ peft_type }: JsonObject) => peft_type === "LORA";

/** Fields that only LoRA has mean nothing to the others, which refuse what they do not know. */
function givenKind(input: AdapterInput): AdapterInput {
  return isLora(input.config) ? input : { ...input, config: without(input.config, LORA_FIELDS) };
}

const without = (config: JsonObject, fields: readonly string[]) =>
  Object.fromEntries(Object.entries(config).filter(([field]) => !fields.includes(field)));

/** The config without the fields that are dealt with here. */
function kindConfig(config: JsonObject, tied: TiedFactors | null): JsonObject {
  const fields = isLora(config) ? [...FIELDS, ...LORA_FIELDS] : FIELDS;
  const rest = without(config, carriesBiases(config) ? [...fields, "bias"] : fields);
  if (!tied?.head) return rest;
  const targets = config.target_modules;
  if (typeof targets === "string") {
    return { ...rest, target_modules: `(?:${targets})|${tied.head.replaceAll(".", "\\.")}` };
  }
  return Array.isArray(targets) ? { ...rest, target_modules: [...targets, tied.head] } : rest;
}

/** `bias`: "all", or those of adapted modules ("lora_only", "oft_only", …), which the file then holds as a whole. */
const carriesBiases = ({ bias }: JsonObject) =>
  typeof bias === "string" && (bias === "all" || /^[a-z0-9]+_only$/.test(bias));

/** Biases that training changed and the file lacks. */
function missingBiases(input: AdapterInput, { copies, whole }: Carried, targets: readonly AdapterTarget[]) {
  if (!carriesBiases(input.config)) return [];
  const wanted =
    input.config.bias === "all"
      ? [...input.base.keys()].filter((name) => name.endsWith(".bias"))
      : targets.flatMap(({ module }) => findTensor(input, module, "bias")?.name ?? []);
  const missing = [...new Set(wanted)].filter((name) => !copies.has(name) && !whole.has(name));
  return missing.map(
    (name): Finding => ({
      code: "MISSING_TENSOR",
      subject: name,
      message: `adapter_config.json: bias = ${JSON.stringify(input.config.bias)} means that "${name}" was trained, but the adapter file does not hold it: the file is incomplete, save it again.`,
    }),
  );
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
function startingFromCopies(
  targets: readonly AdapterTarget[],
  { copies }: Carried,
  from: number,
): readonly AdapterTarget[] {
  if (copies.size === 0) return targets;
  const start = (leaf: Leaf): Expr => {
    const copy = leaf.op === "base" ? copies.get(leaf.tensor) : undefined;
    return copy ? round(source(from, copy.tensor.name)) : leaf;
  };
  return targets.map((target) => ({ ...target, expr: mapLeaves(target.expr, start) }));
}

/** Targets of what is carried, each as if the kind changed nothing there. */
function ownTargets(carried: Carried, from: number): AdapterTarget[] {
  const plain = { rank: null, alpha: null, scale: null };
  const targets = new Map<string, AdapterTarget>();
  for (const [tensor, { module, leaf, tensor: copy, place }] of carried.copies) {
    const grown = place !== null && place.shape.join() !== copy.shape.join();
    const change = grown ? "resized vocabulary" : leaf === "bias" ? "bias" : "copy in the adapter";
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
  report: Report,
): AdapterTarget[] {
  const adapted = new Set(targets.map(({ tensor }) => tensor));
  for (const { tensor, module, change } of own) {
    if (adapted.has(tensor) && change === TOKEN_ROWS)
      report(rowsBeside(module, "changes all of them by its factors"));
  }
  return [...targets, ...own.filter(({ tensor }) => !adapted.has(tensor))];
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
  const expr = mapLeaves(target.expr, (leaf) => {
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
