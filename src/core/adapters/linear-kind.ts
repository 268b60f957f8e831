import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Finding, Report } from "../errors.ts";
import type { Expr } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import type { FieldRules } from "./config.ts";
import { type Adapted, type Made, type ModuleKind, parseModules } from "./frame.ts";
import type { AdapterInput, AdapterTarget, ParsedAdapter } from "./index.ts";
import { bindShapes, type Dims, type PartRule } from "./part-shapes.ts";
import { type Parts, read } from "./parts.ts";
import { ONE_EXPERT } from "./targets.ts";

/*
 * The kinds whose tensors belong to linear layers alone, each described by the shapes of its tensors and a formula.
 */

/** A module whose tensors are all there and have the shapes that its kind wants. */
export interface LinearModule<Settings> {
  readonly input: AdapterInput;
  readonly settings: Settings;
  /** As the adapter names it. */
  readonly name: string;
  readonly weight: LocatedTensor;
  readonly parts: Parts;
  /** Tensors that all modules share, by the end of their keys. */
  readonly shared: ReadonlyMap<string, TensorFacts>;
  /** Sizes by the symbols of the part rules; `out` and `in` are the weight's own. */
  readonly dims: Dims;
  /** An adapter tensor of the module, which has to be there, as an expression. */
  part(name: string): Expr;
}

/** One output tensor that a module's tensors change. */
export type LinearChange = Pick<AdapterTarget, "expr"> &
  Partial<Pick<AdapterTarget, "rank" | "alpha" | "scale">> & {
    /** Default: the module's weight. */
    readonly tensor?: string;
  };

export interface LinearKind<Settings> {
  /** Its usual name. */
  readonly change: string;
  readonly fields: FieldRules;
  /** By the end of the tensors' keys. */
  readonly parts: Readonly<Record<string, PartRule>>;
  /** Ends of keys of tensors that all modules share, after `base_model.`. */
  readonly shared?: RegExp;
  readonly settings: (config: JsonObject, report: Report) => Settings;
  readonly changes: (module: LinearModule<Settings>) => readonly LinearChange[] | Finding;
}

/** Parses an adapter of such a kind: every module is checked, and every reason to refuse it is given. */
export function parseLinear<Settings>(input: AdapterInput, kind: LinearKind<Settings>): ParsedAdapter {
  const { own, shared } = split(input, kind.shared);
  const parsed = parseModules({ ...input, tensors: own }, moduleKind(kind, shared));
  const unread = Object.entries(kind.parts).filter(([, rule]) => rule.unread);
  const ends = unread.map(([part]) => `.${part}`);
  const ignored = own.flatMap(({ name }) => (ends.some((end) => name.endsWith(end)) ? [name] : []));
  return { ...parsed, ignored: new Set(ignored) };
}

function moduleKind<Settings>(
  kind: LinearKind<Settings>,
  shared: ReadonlyMap<string, TensorFacts>,
): ModuleKind {
  const whole = Object.keys(kind.parts).filter((part) => kind.parts[part]!.whole);
  return {
    name: kind.change,
    part: anyOf(Object.keys(kind.parts)),
    ...(whole.length > 0 && { whole: anyOf(whole) }),
    fields: kind.fields,
    layers: ["linear"],
    read(config, { report }) {
      const settings = kind.settings(config, report);
      return (adapted) => made(adapted, { kind, settings, shared });
    },
  };
}

interface Context<Settings> {
  readonly kind: LinearKind<Settings>;
  readonly settings: Settings;
  readonly shared: ReadonlyMap<string, TensorFacts>;
}

function made<Settings>(adapted: Adapted, { kind, settings, shared }: Context<Settings>): Made {
  const { input, module: name, parts, weight } = adapted;
  const misplaced = layerProblem(name, kind.change);
  if (misplaced) return misplaced;
  const bound = bindShapes({ module: name, parts, rules: kind.parts, weight });
  if ("code" in bound) return bound;
  const part = (end: string): Expr => read(input, parts.get(end)!);
  const changes = kind.changes({ input, settings, name, weight, parts, shared, dims: bound.sizes, part });
  if ("code" in changes) return changes;
  return changes.map(({ tensor = weight.name, expr, rank = null, alpha = null, scale = null }) => {
    return { tensor, module: name, change: kind.change, rank, alpha, scale, expr };
  });
}

const anyOf = (ends: readonly string[]) =>
  new RegExp(`(?:${ends.map((end) => end.replaceAll(".", "\\.")).join("|")})`);

/** Tensors that belong to all modules, and the rest. */
function split({ tensors }: AdapterInput, pattern: RegExp | undefined) {
  const shared = new Map<string, TensorFacts>();
  if (!pattern) return { own: tensors, shared };
  const end = new RegExp(`^base_model\\.(${pattern.source})$`);
  const own = tensors.filter((tensor) => {
    const name = end.exec(tensor.name.replace(/\.default$/, ""))?.[1];
    if (name === undefined || shared.has(name)) return true;
    shared.set(name, tensor);
    return false;
  });
  return { own, shared };
}

const EMBEDDING = /(^|\.)(embed_tokens|wte|wpe|word_embeddings|embed_in|tok_embeddings)$/;

/** Modules whose weight is a matrix, and which are no linear layer all the same. */
function layerProblem(name: string, change: string): Finding | null {
  const what = ONE_EXPERT.test(`${name}.`)
    ? "one expert of a mixture"
    : EMBEDDING.test(name) && "an embedding";
  if (!what) return null;
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: name,
    message: `module ${name} is ${what}: ${change} is merged into linear layers only; merge it with PEFT and import the result.`,
  };
}
