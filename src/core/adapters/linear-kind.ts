import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Finding, Report } from "../errors.ts";
import { type Expr, transpose } from "../expr.ts";
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
  /** Sizes by the symbols of the part rules; `out` and `in` are those of the layer. */
  readonly dims: Dims;
  /** The weight is stored (in, out): transformers' Conv1D. */
  readonly transposed: boolean;
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
  /** PEFT has it for transformers' Conv1D, too, and adds the transposed change. */
  readonly transposes?: true;
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
    layers: kind.transposes ? ["linear", "transposed"] : ["linear"],
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
  if (ONE_EXPERT.test(`${name}.`)) return expert(name, kind.change);
  const { out, in: width } = adapted;
  const bound = bindShapes({ module: name, parts, rules: kind.parts, weight, sizes: { out, in: width } });
  if ("code" in bound) return bound;
  const changes = kind.changes({
    ...{ input, settings, name, weight, parts, shared },
    dims: bound.sizes,
    transposed: adapted.layer === "transposed",
    part: (end) => read(input, parts.get(end)!),
  });
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

/** The factors of a change (out×r and r×in), as the layout of the weight wants them. */
export function laidOut(
  { transposed }: Pick<LinearModule<unknown>, "transposed">,
  factors: Factors,
): Factors {
  const { left, right } = factors;
  return transposed ? { left: transpose(right), right: transpose(left) } : factors;
}

interface Factors {
  readonly left: Expr;
  readonly right: Expr;
}

/** In memory the experts of a mixture are one tensor, and PEFT rounds their change in another way. */
function expert(name: string, change: string): Finding {
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: name,
    message: `module ${name} is one expert of a mixture: ${change} is merged into linear layers only; merge it with PEFT and import the result.`,
  };
}
