import { evidence, type Fault, reasonOf, toldReasons } from "./findings.ts";
import { isChange, whatItIs } from "./hypotheses.ts";
import type { Reason } from "./report.ts";
import { movedOf, overall, type TouchedTensor, type WeightSample } from "./retention.ts";
import { listed, plainReason } from "./structure.ts";
import { counted, percent } from "./wording.ts";

/** What was found of a tensor that the adapter leaves alone. */
export interface UntouchedTensor {
  readonly tensor: string;
  readonly shape: readonly number[];
  readonly elements: number;
  readonly nonFinite: number;
  /** Byte for byte the base's. */
  readonly identical: boolean;
  /** Elements of another value than the base's, as the candidate's type stores it. */
  readonly differing: number;
}

export interface DiagnosisInput {
  readonly touched: readonly TouchedTensor[];
  readonly untouched: readonly UntouchedTensor[];
  /** Of those that `suspects` names. */
  readonly samples: ReadonlyMap<string, WeightSample>;
  /** Units in the last place that a touched element may be from its canonical value. */
  readonly maxUlp: number;
}

/** Samples that are kept in memory at once. */
const MAX_SAMPLES = 256;

/**
 * Whether a touched tensor is base + adapter within rounding: no element further from the canonical value than allowed,
 * and as much of the change in it as rounding leaves. The second matters for light changes: where all of Δ is below a
 * unit in the last place, the plain base is within it too. It does not matter where next to no element is another one.
 */
export function isRight(found: TouchedTensor, maxUlp: number): boolean {
  const { distance, sums, nonFinite, elements, hasBase } = found;
  if (nonFinite > 0 || !isNear(found, maxUlp)) return false;
  if (!sums || !hasBase || sums.delta === 0) return true;
  // Coarse canonical steps change how much of the change is left, but all of it is the canonical value.
  if (distance && distance.differing <= DAMAGED_SHARE * sums.rightMoved) return true;
  const apart = Math.abs(sums.together - sums.rightTogether) / sums.delta;
  const noise = Math.sqrt(sums.rightError / sums.delta / elements);
  // Without a canonical value the error itself has to say it.
  return apart <= PROJECTION_SLACK + 5 * noise && (distance !== null || excess(found) <= COARSE);
}

/** Whether no element is further from the canonical value than rounding in another order or type takes it. */
function isNear(found: TouchedTensor, maxUlp: number): boolean {
  const { distance, elements } = found;
  if (!distance) return true;
  if (distance.maxUlp === null) return distance.differing === 0;
  if (distance.maxUlp <= maxUlp) return true;
  // A coarse arithmetic errs a little in many places; damage errs in few.
  return distance.maxUlp <= 4 * maxUlp && distance.far > DAMAGED_SHARE * elements && excess(found) <= COARSE;
}

/** Error of the stored change beyond what storing it costs, relative to the change. */
function excess({ sums }: TouchedTensor): number {
  if (!sums || sums.delta === 0) return Number.POSITIVE_INFINITY;
  return Math.sqrt(Math.max(0, sums.error - sums.rightError) / sums.delta);
}

/** Relative error of a change that was computed in a 16-bit type. */
const COARSE = 0.01;

/** How far a projection may be from what rounding explains: other arithmetics round otherwise. */
const PROJECTION_SLACK = 0.05;

/** Tensors whose elements are worth a look: what is wrong for no obvious cause, and others of the same shape beside it. */
export function suspects(touched: readonly TouchedTensor[], maxUlp: number): string[] {
  const sampled = touched.filter(({ sums, hasBase }) => sums !== null && hasBase && sums.delta > 0);
  const wrong = sampled.filter(
    (found) => !isRight(found, maxUlp) && !isUnmoved(found) && found.nonFinite === 0,
  );
  const shapes = new Set(wrong.map(({ shape }) => shape.join()));
  const beside = sampled.filter((found) => shapes.has(found.shape.join()) && !wrong.includes(found));
  return [...wrong, ...beside].slice(0, MAX_SAMPLES).map(({ tensor }) => tensor);
}

/** Named reasons from level 1: why a candidate is not base + adapter. Empty for one that is, within rounding. */
export function diagnose(input: DiagnosisInput): Reason[] {
  const { touched, untouched } = input;
  const infinite = notFinite(touched, untouched);
  const idle = noEffect(input);
  if (idle.length > 0) return [...infinite, ...idle];
  const faults = touched.flatMap((found) => faultOf(found, input) ?? []);
  const changed = untouched.filter(({ differing }) => differing > 0);
  const adapter = otherAdapter(faults, changed, touched.length - faults.length);
  if (adapter) return [...infinite, adapter];
  const base = otherBase({ faults, changed, input });
  return [
    ...infinite,
    ...(base ? [base] : []),
    ...dropped(faults, input),
    ...toldReasons(faults),
    ...(base ? [] : [...tensorsDiffer(faults), ...untouchedChanged(changed)]),
    ...roundedAway(touched),
  ];
}

function notFinite(touched: readonly TouchedTensor[], untouched: readonly UntouchedTensor[]): Reason[] {
  const found = [...touched, ...untouched].filter(({ nonFinite }) => nonFinite > 0);
  if (found.length === 0) return [];
  const count = found.reduce((sum, { nonFinite }) => sum + nonFinite, 0);
  const names = found.map(({ tensor }) => tensor);
  const message = `The candidate holds ${counted(count, "element")} that ${count === 1 ? "is" : "are"} NaN or infinite, in ${listed(names)}: one of them spoils every answer. Merge again in a wider type, and check the adapter.`;
  return [{ code: "NOT_FINITE", level: 0, message, subject: names[0]!, value: count, threshold: 0 }];
}

/** Whether the candidate is the base, value by value, and why. */
export function noEffect({ touched, untouched }: Pick<DiagnosisInput, "touched" | "untouched">): Reason[] {
  const same = touched.every((found) => movedOf(found) === 0 && found.nonFinite === 0);
  if (!same || touched.length === 0 || untouched.some(({ differing }) => differing > 0)) return [];
  const { delta, rightMoved } = overall(touched);
  const equal = `What the adapter changes (${counted(touched.length, "tensor")}) equals the base's, and so does the rest`;
  const reason = (code: string, level: 0 | 1, why: string) => [plainReason(code, level, `${equal}: ${why}`)];
  if (delta === 0) {
    return reason(
      "NO_EFFECT",
      0,
      "the adapter's change is zero everywhere. Use a later training checkpoint.",
    );
  }
  if (rightMoved === 0) {
    const why =
      "every change is smaller than half the spacing of the stored type and was rounded away. Merge with dtype F32, or serve the adapter beside the base.";
    return reason("ROUNDED_AWAY", 1, why);
  }
  const why =
    "it is the base under another name, nothing was merged. Merge the adapter, or name the folder that holds the merge.";
  return reason("NO_EFFECT", 0, why);
}

/** Much of a change that was stored as well as it can be is lost to rounding. */
function roundedAway(touched: readonly TouchedTensor[]): Reason[] {
  const { delta, together, rightTogether, moved, elements } = overall(touched);
  if (delta === 0 || rightTogether >= LEAST_KEPT * delta || together >= LEAST_KEPT * delta) return [];
  const message =
    `Of the adapter's change ${percent(Math.max(0, together / delta))} is left after rounding, and ${percent(moved / elements)} of the elements moved at all: ` +
    "it is smaller than the spacing of the stored type. Merge with dtype F32, or serve the adapter beside the base.";
  return [
    {
      code: "ROUNDED_AWAY",
      level: 1,
      message,
      subject: null,
      value: together / delta,
      threshold: LEAST_KEPT,
    },
  ];
}

/** Share of a change that must be left; rounding is without bias, and leaves all of one that is not tiny. */
const LEAST_KEPT = 0.5;

function isUnmoved({ sums, hasBase }: TouchedTensor): boolean {
  return sums !== null && hasBase && sums.moved === 0 && sums.rightMoved > 0;
}

function faultOf(found: TouchedTensor, { samples, maxUlp, untouched }: DiagnosisInput): Fault | null {
  if (found.nonFinite > 0 || isRight(found, maxUlp)) return null;
  if (isUnmoved(found)) return { found, code: "UNMOVED", detail: "" };
  const sample = samples.get(found.tensor);
  const others = [...samples.values()].filter(
    (other) => other !== sample && other.shape.join() === found.shape.join(),
  );
  const told = sample && whatItIs(found, sample, others);
  if (told) return { found, code: told.code, detail: told.detail };
  const { distance, sums, elements, hasBase } = found;
  const own = sample !== undefined && isChange(sample, sample.delta);
  if (
    !sums ||
    !hasBase ||
    sums.delta === 0 ||
    own ||
    (distance && distance.far <= DAMAGED_SHARE * elements)
  ) {
    return { found, code: "DAMAGED", detail: "" };
  }
  const error = Math.sqrt(sums.error / sums.delta);
  const apart = Math.abs(sums.together - sums.rightTogether) / sums.delta;
  const tolerance = (5 * error) / Math.sqrt(elements);
  // Beside something far larger the change cannot be made out; another base would show elsewhere, too.
  const hidden = tolerance > 0.5 && untouched.every(({ differing }) => differing === 0);
  const isThere = !hidden && apart <= PROJECTION_SLACK + tolerance;
  return { found, code: isThere ? "MORE" : "OTHER", detail: "" };
}

/** Fewer elements than this share of a tensor are damage, not another change. */
const DAMAGED_SHARE = 0.01;

function otherBase(of: {
  readonly faults: readonly Fault[];
  readonly changed: readonly UntouchedTensor[];
  readonly input: DiagnosisInput;
}): Reason | null {
  const { faults, changed, input } = of;
  const { touched, untouched } = input;
  const more = faults.filter(({ code }) => code === "MORE");
  const most = untouched.length > 0 && changed.length * 2 >= untouched.length && changed.length > 2;
  if (!most && more.length * 2 < Math.max(3, touched.length)) return null;
  const found: string[] = [];
  if (changed.length > 0) {
    found.push(
      `${changed.length} of ${untouched.length} tensors that the adapter leaves alone are not the base's (${listed(changed.map(({ tensor }) => tensor))})`,
    );
  }
  if (more.length > 0) {
    const [first] = more as [Fault];
    found.push(
      `${more.length} of ${touched.length} changed tensors hold the adapter's change and something else besides (${first.found.tensor}: ${evidence(first.found)})`,
    );
  }
  const message = `The candidate was made from another base, such as another revision of this one: ${found.join("; ")}. Name the base that it was merged into, or merge into this one again.`;
  return plainReason("BASE_DIFFERS", 1, message, changed[0]?.tensor ?? more[0]!.found.tensor);
}

/** A layer is what a name has up to its first number. */
export function layerOf(tensor: string): string | null {
  return /^(.*?\.\d+)\./.exec(tensor)?.[1] ?? null;
}

function dropped(faults: readonly Fault[], { touched }: DiagnosisInput): Reason[] {
  const unmoved = faults.filter(({ code }) => code === "UNMOVED").map(({ found }) => found);
  if (unmoved.length === 0) return [];
  const moves = touched.filter(({ sums, hasBase }) => hasBase && sums !== null && sums.rightMoved > 0);
  const byLayer = Map.groupBy(moves, ({ tensor }) => layerOf(tensor));
  const gone = [...byLayer].filter(
    ([layer, own]) => layer !== null && own.every((one) => unmoved.includes(one)),
  );
  const inLayers = new Set(gone.flatMap(([, own]) => own));
  const rest = unmoved.filter((one) => !inLayers.has(one));
  const reasons: Reason[] = [];
  const next = "Merge again; a tool that skips modules must be told all of them.";
  if (gone.length > 0) {
    const layers = gone.map(([layer]) => layer!);
    const [first] = gone[0]![1] as [TouchedTensor];
    const message = `${listed(layers)}: none of the adapter's changes is in ${layers.length === 1 ? "this layer" : "these layers"}: all ${counted(inLayers.size, "tensor")} that it changes there equal the base's (${expected(first)}). ${next}`;
    reasons.push(reasonOf("LAYER_DROPPED", message, first, layers[0]));
  }
  if (rest.length > 0) {
    const [first] = rest as [TouchedTensor];
    const message = `${listed(rest.map(({ tensor }) => tensor))}: the adapter's change is not in ${rest.length === 1 ? "it" : "them"}, the base's values are (${expected(first)}). ${next}`;
    reasons.push(reasonOf("MODULE_DROPPED", message, first));
  }
  return reasons;
}

/** That it is not rounding: how many elements should have moved. */
function expected({ tensor, sums, elements }: TouchedTensor): string {
  return `in ${tensor} ${percent(sums!.rightMoved / elements)} of the elements should have moved`;
}

/**
 * Most of what was added at all is another change. An adapter leaves vectors alone, and embeddings mostly: where those
 * changed as well, it is the base that is another.
 */
function otherAdapter(
  faults: readonly Fault[],
  changed: readonly UntouchedTensor[],
  right: number,
): Reason | null {
  const other = faults.filter(({ code }) => code === "OTHER");
  const moved = faults.filter(({ code }) => code !== "UNMOVED");
  if (other.length <= right || other.length * 2 < moved.length) return null;
  if (changed.some(({ shape }) => shape.length < 2)) return null;
  const [first] = other as [Fault];
  const count = `${other.length} of ${counted(faults.length, "tensor")}`;
  const message = `What was added to ${count} that are not base + adapter is another change than this adapter's (${first.found.tensor}: ${evidence(first.found)}): it was made from another adapter, another checkpoint of its training, or for another base. Name the adapter that was merged, or merge this one.`;
  return reasonOf("ADAPTER_DIFFERS", message, first.found);
}

function tensorsDiffer(all: readonly Fault[]): Reason[] {
  const faults = all.filter(({ code }) => code === "OTHER" || code === "MORE" || code === "DAMAGED");
  if (faults.length === 0) return [];
  const [first] = faults as [Fault];
  const { found } = first;
  const names = faults.map((fault) => fault.found.tensor);
  const far = found.distance
    ? `${counted(found.distance.far, "element")} of ${found.elements} too far from base + adapter, `
    : "";
  const message = `${listed(names)}: not what base + adapter gives (${found.tensor}: ${far}${evidence(found)}). Something else changed ${names.length === 1 ? "this tensor" : "these tensors"}, or the file is damaged: restore it or merge again.`;
  return [reasonOf("TENSOR_DIFFERS", message, found)];
}

function untouchedChanged(changed: readonly UntouchedTensor[]): Reason[] {
  if (changed.length === 0) return [];
  const [first] = changed as [UntouchedTensor];
  const names = changed.map(({ tensor }) => tensor);
  const message = `${listed(names)}: the adapter leaves ${names.length === 1 ? "this tensor" : "these tensors"} alone, and ${names.length === 1 ? "it is" : "they are"} not the base's (${first.tensor}: ${first.differing} of ${first.elements} elements differ). Restore the file, or merge again with nothing else in between.`;
  return [
    {
      code: "UNTOUCHED_CHANGED",
      level: 1,
      message,
      subject: first.tensor,
      value: first.differing,
      threshold: 0,
    },
  ];
}
