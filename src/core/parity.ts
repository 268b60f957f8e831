import type { TensorStats } from "./checkpoint.ts";
import { type DeviceUse, MAX_ULP } from "./devices.ts";
import type { Finding } from "./errors.ts";
import type { MergePlan } from "./plan.ts";
import type { TensorHeader } from "./safetensors.ts";

/** One question of the check after a merge, with its answer. */
export interface Check {
  /** Parity level: 0 structure, 1 weights. */
  readonly level: 0 | 1;
  readonly name: string;
  readonly passed: boolean;
  /** What was compared, and what was found. */
  readonly detail: string;
}

export interface CheckReport {
  readonly verdict: "PASSED" | "FAILED";
  readonly checks: readonly Check[];
  readonly warnings: readonly Finding[];
}

/** What the executor learnt of one output tensor. */
export interface TensorOutcome {
  readonly tensor: string;
  readonly touched: boolean;
  /** `null` for a tensor that the base lacks. */
  readonly inputDigest: string | null;
  readonly outputDigest: string;
  readonly inputStats: TensorStats;
  readonly stats: TensorStats;
  /** Elements whose stored bits changed, of how many. */
  readonly changed: number;
  readonly elements: number;
  /** A factor holds zeros only, or the scale is 0: nothing is added here, whatever becomes of a negative zero. */
  readonly updateIsZero: boolean;
  /** Copied unread: the output's digest is the one that the input's file had when it was digested. */
  readonly inherited?: boolean;
}

export interface SampledRows {
  readonly rows: number;
  readonly elements: number;
  /** Tensors in which a sampled element differs from the canonical value. */
  readonly differing: readonly string[];
  /** Tensors of which even a piece takes too much to compute a second way. */
  readonly skipped?: readonly string[];
}

export interface CheckInput {
  readonly plan: MergePlan;
  readonly outcomes: readonly TensorOutcome[];
  /** Headers read back from the written files. */
  readonly written: readonly TensorHeader[];
  /** Files in the written folder. */
  readonly files: readonly string[];
  readonly sampled: SampledRows;
  /** On a device: what it computed, and what there is to say about that. */
  readonly device?: { readonly use: DeviceUse; readonly warnings: readonly Finding[] };
}

/** Levels 0 and 1 of a parity report: is it the checkpoint that was meant, and did the arithmetic happen? */
export function checkMerge(input: CheckInput): CheckReport {
  const { device } = input;
  const checks = [
    ...structureChecks(input),
    ...weightChecks(input),
    ...(device ? [deviceCheck(device.use)] : []),
  ];
  return {
    verdict: checks.every((check) => check.passed) ? "PASSED" : "FAILED",
    checks,
    warnings: [...outcomeWarnings(input.outcomes), ...(device?.warnings ?? [])],
  };
}

const list = (names: readonly string[]) => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
/** Names that PEFT gives to an adapter's own tensors; no model's own tensor is called so. */
export const isAdapterName = (name: string) =>
  /^base_model\.|(^|\.)(lora|ia3|hada|lokr|oft|boft|vera|hra|miss|bone|shira|road|delora|hira|fourierft)_/.test(
    name,
  );

function structureChecks({ plan, written, files }: CheckInput): Check[] {
  const left = written.map((t) => t.name).filter(isAdapterName);
  const adapterFiles = files.filter((file) => /(^|\/)adapter_(config|model)\./.test(file));
  return [
    {
      level: 0,
      name: "an adapter before, none after",
      passed: plan.touched.length > 0 && left.length === 0 && adapterFiles.length === 0,
      detail: `${plan.touched.length} tensors were adapted; ${left.length} adapter tensors and ${adapterFiles.length} adapter files came out`,
    },
    headerCheck(plan, written),
  ];
}

/** The written headers against the plan, which says what is the base's, what is cast, resized, new and left out. */
function headerCheck(plan: MergePlan, written: readonly TensorHeader[]): Check {
  const byName = new Map(written.map((t) => [t.name, t]));
  const wrong = plan.steps.filter((step) => {
    const found = byName.get(step.tensor);
    return !found || found.dtype !== step.dtype || found.shape.join() !== step.shape.join();
  });
  const planned = new Set(plan.steps.map((step) => step.tensor));
  const extra = written.map((t) => t.name).filter((name) => !planned.has(name));
  const passed = wrong.length === 0 && extra.length === 0 && byName.size === written.length;
  return {
    level: 0,
    name: "names, shapes and dtypes are as planned",
    passed,
    detail: passed ? layoutOf(plan) : list([...wrong.map((step) => step.tensor), ...extra]),
  };
}

function layoutOf({ steps }: MergePlan): string {
  const added = steps.filter(({ tensor, input }) => input?.tensor !== tensor);
  const own = steps.filter(({ tensor, input }) => input?.tensor === tensor);
  const resized = own.filter(({ input, shape }) => input!.shape.join() !== shape.join());
  const cast = own.filter(({ input, dtype }) => input!.dtype !== dtype);
  const parts = [
    [resized.length, "of another shape than in the base"],
    [cast.length, "of another type"],
    [added.length, "that the base lacks"],
  ] as const;
  const others = parts.filter(([count]) => count > 0).map(([count, what]) => `, ${count} ${what}`);
  return `${steps.length} tensors${others.join("")}${others.length === 0 ? ", all as in the base" : ""}`;
}

function weightChecks({ plan, outcomes, sampled, device }: CheckInput): Check[] {
  // A cast changes the bytes of every tensor; its values are sampled like those of touched ones.
  const cast = new Set(plan.steps.filter((s) => s.input && s.input.dtype !== s.dtype).map((s) => s.tensor));
  const untouched = outcomes.filter((o) => !o.touched && !cast.has(o.tensor));
  const moved = untouched.filter((o) => o.inputDigest !== o.outputDigest).map((o) => o.tensor);
  const touched = outcomes.filter((o) => o.touched);
  const infinite = touched.filter((o) => o.stats.nonFinite > 0).map((o) => o.tensor);
  const skipped = sampled.skipped ?? [];
  return [
    {
      level: 1,
      name: "untouched tensors are identical",
      passed: moved.length === 0,
      detail: moved.length === 0 ? untouchedDetail(untouched) : list(moved),
    },
    {
      level: 1,
      name: "touched tensors are finite",
      passed: infinite.length === 0,
      detail: infinite.length === 0 ? `${touched.length} tensors, every element` : list(infinite),
    },
    {
      level: 1,
      // On a device those values stood there before its own, which were compared with them.
      name: `touched tensors ${device ? "equalled" : "equal"} the canonical value`,
      passed:
        sampled.differing.length === 0 && (sampled.rows > 0 || skipped.length > 0 || touched.length === 0),
      detail: sampled.differing.length === 0 ? sampleDetail(sampled, skipped) : list(sampled.differing),
    },
  ];
}

function untouchedDetail(untouched: readonly TensorOutcome[]): string {
  const inherited = untouched.filter((o) => o.inherited).length;
  const read = `${untouched.length - inherited} tensors by sha256`;
  if (inherited === 0) return read;
  return `${read}, ${inherited} copied as they are from files that did not change since they were digested`;
}

function sampleDetail({ elements, rows }: SampledRows, skipped: readonly string[]): string {
  const looked = `${elements} elements in ${rows} places, read back and computed a second way`;
  if (skipped.length === 0) return looked;
  return `${looked}; ${skipped.length} tensors would take too long (${list(skipped)})`;
}

function deviceCheck({ device, tensors, elements, differing, maxUlp }: DeviceUse): Check {
  return {
    level: 1,
    name: `what ${device} computed is within ${MAX_ULP} ulp of the canonical value`,
    passed: maxUlp <= MAX_ULP,
    detail:
      `${differing} of ${elements} elements in ${tensors} tensors differ, ` +
      `by at most ${Number(maxUlp.toPrecision(3))} ulp at the larger of |W| and |W′|`,
  };
}

/** Adding zero turns -0 into 0: other bits, the same value. */
const hasEffect = (o: TensorOutcome) => o.changed > 0 && !o.updateIsZero;

/** A touched tensor that did not move: a warning with its reason. */
function outcomeWarnings(outcomes: readonly TensorOutcome[]): Finding[] {
  return outcomes
    .filter((o) => o.touched && !hasEffect(o) && o.elements > 0)
    .map((o) => ({
      code: "TENSOR_UNCHANGED",
      subject: o.tensor,
      message: `tensor "${o.tensor}" did not change: ${
        o.updateIsZero
          ? "its lora_B (or lora_A, or alpha) is zero, the adapter learnt nothing there"
          : "its new values are the base's, or every change is smaller than half the spacing of the stored type and was rounded away"
      }.`,
    }));
}

/** A merge that changes nothing is an error: its output would be the base under another name. */
export function requireEffect(outcomes: readonly TensorOutcome[]): Finding | null {
  const touched = outcomes.filter((o) => o.touched);
  if (touched.some(hasEffect)) return null;
  const zero = touched.filter((o) => o.updateIsZero).length;
  return {
    code: "NO_EFFECT",
    message:
      `none of the ${touched.length} adapted tensors changed (${zero} have a zero lora_B, lora_A or alpha, ${touched.length - zero} round away): ` +
      "the output would equal the base. Use a later training checkpoint, or serve the adapter beside the base.",
  };
}
