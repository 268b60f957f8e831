import { sameExpr } from "./adapters/rewrite.ts";
import { tiedPair, WHOLE_MODULE } from "./adapters/ties.ts";
import { readModelFacts } from "./arch.ts";
import { asStored, type UnmergedForm, withoutRounding } from "./branches.ts";
import { CONFIG_FILE, type LocatedTensor } from "./checkpoint.ts";
import { type Change, conflictOf, weightedForm } from "./combined-tensor.ts";
import type { Finding, Report } from "./errors.ts";
import { base as baseLeaf, type Expr, mapLeaves } from "./expr.ts";
import type { JsonObject } from "./json.ts";
import type { JsonEdit } from "./json-edit.ts";
import type { MergePlan } from "./plan.ts";
import type { PlanStep } from "./plan-layout.ts";
import type { ShapeLookup } from "./shapes.ts";

/** One adapter with the plan of its own merge into the base, and its weight beside the others. */
export interface PlannedSource {
  readonly plan: Pick<MergePlan, "steps" | "files" | "touched">;
  readonly weight: number;
  /** What to call it in messages. */
  readonly label: string;
}

export interface CombinedRequest {
  /** Of the base. */
  readonly tensors: ReadonlyMap<string, LocatedTensor>;
  /** config.json of the base. */
  readonly config: JsonObject;
  /** What a base tensor's values are where they are not the stored ones: 8-bit floats times their scales. */
  readonly values: ReadonlyMap<string, Expr>;
  readonly sources: readonly PlannedSource[];
  /** Of leaves; sources are numbered as they are listed. */
  readonly shapes: ShapeLookup;
}

/** One tensor of the model that base and adapters are together. */
export interface CombinedTensor {
  readonly tensor: string;
  readonly shape: readonly number[];
  /** Base tensor that it starts from. */
  readonly start: string | null;
  readonly touched: boolean;
  readonly form: UnmergedForm;
}

export interface Combined {
  readonly tensors: readonly CombinedTensor[];
  /** Of config.json. */
  readonly edits: readonly JsonEdit[];
  readonly problems: readonly Finding[];
}

/**
 * Base and adapters as one model that is not merged: each tensor is W + Σ weightᵢ·(exprᵢ − W), exprᵢ being what source i
 * alone would make of it. Problems: AMBIGUOUS_SOURCES where a source replaces, resizes, drops or repeats what another
 * one changes, WEIGHT_OF_REPLACEMENT where a weight would scale a replacement of another shape.
 */
export function combineSources(request: CombinedRequest): Combined {
  const problems: Finding[] = [];
  const report = (finding: Finding) => problems.push(finding);
  const pair = tiedPair(request.tensors, readModelFacts(request.config));
  const tied = pair?.stored === "no" ? { embedding: pair.embedding.name, head: pair.head } : null;
  const views = request.sources.map((source, number) => viewOf(source, number, tied));
  const names = new Set(views.flatMap(({ names }) => names));
  const tensors = [...names].flatMap(
    (tensor) => combineTensor(tensor, { tied, views, request }, report) ?? [],
  );
  return { tensors, edits: combineEdits(request.sources, report), problems };
}

/** What one source alone makes of the model. */
interface View {
  readonly label: string;
  readonly weight: number;
  readonly names: readonly string[];
  /** The step that makes a tensor; of a head that is still tied, its embedding's. */
  step(tensor: string): PlanStep | undefined;
  /** The step's value without rounding, its leaves numbered as the source is; null for a plain copy. */
  change(step: PlanStep): Expr | null;
  /** Whether a module or a bias that was trained as a whole takes the tensor's place. */
  replaces(step: PlanStep): boolean;
}

/** Names of a tied pair whose head is not stored. */
type Tied = { readonly embedding: string; readonly head: string } | null;

function viewOf({ plan, weight, label }: PlannedSource, number: number, tied: Tied): View {
  const steps = new Map(plan.steps.map((step) => [step.tensor, step]));
  const kinds = new Map(plan.touched.map(({ tensor, change }) => [tensor, change]));
  return {
    label,
    weight,
    names: [...steps.keys()],
    step: (tensor) => steps.get(tensor) ?? (tied?.head === tensor ? steps.get(tied.embedding) : undefined),
    change({ expr }) {
      if (expr === null) return null;
      return mapLeaves(withoutRounding(expr), (leaf) =>
        leaf.op === "source" && number > 0 ? { ...leaf, source: number } : leaf,
      );
    },
    // The adapter's copy of a base tensor, which PEFT saves beside factors, is no replacement: as a rule it is the same.
    replaces: ({ tensor, expr }) =>
      expr !== null && asStored(expr) !== null && WHOLE.has(kinds.get(tensor) ?? ""),
  };
}

const WHOLE: ReadonlySet<string> = new Set([WHOLE_MODULE, "bias"]);

interface Context {
  readonly tied: Tied;
  readonly views: readonly View[];
  readonly request: CombinedRequest;
}

/** @returns null for a tensor that the combined model lacks, or that has a problem (reported) */
function combineTensor(tensor: string, context: Context, report: Report): CombinedTensor | null {
  const { tied, views, request } = context;
  const found = views.map((view) => ({ view, step: view.step(tensor) }));
  const steps = found.flatMap(({ step }) => step ?? []);
  const starts = [...new Set(steps.flatMap(({ input }) => input?.tensor ?? []))];
  const [name = tied?.head === tensor ? tied.embedding : null] = starts;
  const start = name === null ? null : startOf(name, request);
  const changes = found.flatMap(({ view, step }): Change[] => {
    const expr = step && view.change(step);
    if (!expr || (start && sameExpr(expr, start.expr))) return [];
    const { weight, label } = view;
    return [{ expr, shape: step.shape, weight, label, replaces: view.replaces(step) }];
  });
  const lacking = found.find(({ step }) => !step)?.view.label;
  if (starts.length > 1 || (lacking !== undefined && start)) {
    // What one source drops (the head of a model that becomes a classifier) is gone, unless another one changes it.
    const dropped = starts.length === 1 && changes.length === 0 && request.tensors.has(tensor);
    if (!dropped) report(layoutsDiffer(tensor, views));
    return null;
  }
  const changed = { tensor, start, changes };
  const problem = conflictOf(changed);
  if (problem) {
    report(problem);
    return null;
  }
  return {
    tensor,
    shape: changes[0]?.shape ?? steps[0]!.shape,
    start: name,
    touched: changes.length > 0,
    form: weightedForm(changed, request.shapes),
  };
}

function startOf(name: string, { values, shapes }: CombinedRequest) {
  const leaf = baseLeaf(name);
  return { expr: values.get(name) ?? leaf, shape: shapes(leaf) };
}

function layoutsDiffer(tensor: string, views: readonly View[]): Finding {
  return {
    code: "AMBIGUOUS_SOURCES",
    subject: tensor,
    message: `${views.map(({ label }) => label).join(" and ")} make different models of the base: "${tensor}" is changed by one and stands elsewhere, or nowhere, in the other (layer_replication, or another head). Evaluate them one at a time.`,
  };
}

/** What the plans change in config.json, all together. */
function combineEdits(sources: readonly PlannedSource[], report: Report): JsonEdit[] {
  const edits = new Map<string, { edit: JsonEdit; label: string }>();
  for (const { plan, label } of sources) {
    for (const edit of plan.files.find(({ path }) => path === CONFIG_FILE)?.edits ?? []) {
      const field = edit.path.join(".");
      const other = edits.get(field);
      if (!other) edits.set(field, { edit, label });
      else if (JSON.stringify(other.edit.value) !== JSON.stringify(edit.value)) {
        report({
          code: "AMBIGUOUS_SOURCES",
          subject: field,
          message: `${other.label} and ${label} both change "${field}" in config.json, to ${JSON.stringify(other.edit.value)} and ${JSON.stringify(edit.value)}: what they are together cannot be told. Evaluate them one at a time.`,
        });
      }
    }
  }
  return [...edits.values()].map(({ edit }) => edit);
}
