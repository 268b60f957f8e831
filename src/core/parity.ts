import type { TensorStats } from "./checkpoint.ts";
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
}

export interface SampledRows {
  readonly rows: number;
  readonly elements: number;
  /** Tensors in which a sampled element differs from the canonical value. */
  readonly differing: readonly string[];
}

export interface CheckInput {
  readonly plan: MergePlan;
  readonly outcomes: readonly TensorOutcome[];
  /** Headers read back from the written files. */
  readonly written: readonly TensorHeader[];
  /** Files in the written folder. */
  readonly files: readonly string[];
  readonly sampled: SampledRows;
}

/** Levels 0 and 1 of a parity report: is it the checkpoint that was meant, and did the arithmetic happen? */
export function checkMerge(input: CheckInput): CheckReport {
  const checks = [...structureChecks(input), ...weightChecks(input)];
  return {
    verdict: checks.every((check) => check.passed) ? "PASSED" : "FAILED",
    checks,
    warnings: outcomeWarnings(input.outcomes),
  };
}

const list = (names: readonly string[]) => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
const isAdapterName = (name: string) => /\.lora_|^base_model\./.test(name);

function structureChecks({ plan, written, files }: CheckInput): Check[] {
  const byName = new Map(written.map((t) => [t.name, t]));
  const wrong = plan.steps.filter((step) => {
    const found = byName.get(step.tensor);
    return !found || found.dtype !== step.dtype || found.shape.join() !== step.shape.join();
  });
  const extra = written.length - (plan.steps.length - wrong.length);
  const left = written.map((t) => t.name).filter(isAdapterName);
  const adapterFiles = files.filter((file) => /(^|\/)adapter_(config|model)\./.test(file));
  return [
    {
      level: 0,
      name: "LoRA modules before, none after",
      passed: plan.touched.length > 0 && left.length === 0 && adapterFiles.length === 0,
      detail: `${plan.touched.length} adapted modules went in; ${left.length} LoRA tensors and ${adapterFiles.length} adapter files came out`,
    },
    {
      level: 0,
      name: "names, shapes and dtypes are the base's",
      passed: wrong.length === 0 && extra === 0,
      detail:
        wrong.length === 0 && extra === 0
          ? `${plan.steps.length} tensors`
          : `${list(wrong.map((s) => s.tensor))} ${extra} beyond`,
    },
  ];
}

function weightChecks({ plan, outcomes, sampled }: CheckInput): Check[] {
  // A cast changes the bytes of every tensor; its values are sampled like those of touched ones.
  const cast = new Set(plan.steps.filter((s) => s.input && s.input.dtype !== s.dtype).map((s) => s.tensor));
  const untouched = outcomes.filter((o) => !o.touched && !cast.has(o.tensor));
  const moved = untouched.filter((o) => o.inputDigest !== o.outputDigest).map((o) => o.tensor);
  const touched = outcomes.filter((o) => o.touched);
  const infinite = touched.filter((o) => o.stats.nonFinite > 0).map((o) => o.tensor);
  return [
    {
      level: 1,
      name: "untouched tensors are identical",
      passed: moved.length === 0,
      detail: moved.length === 0 ? `${untouched.length} tensors by sha256` : list(moved),
    },
    {
      level: 1,
      name: "touched tensors are finite",
      passed: infinite.length === 0,
      detail: infinite.length === 0 ? `${touched.length} tensors, every element` : list(infinite),
    },
    {
      level: 1,
      name: "touched tensors equal the canonical value",
      passed: sampled.differing.length === 0 && (sampled.rows > 0 || touched.length === 0),
      detail:
        sampled.differing.length === 0
          ? `${sampled.elements} elements in ${sampled.rows} rows, read back and computed a second way`
          : list(sampled.differing),
    },
  ];
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
          : "every change is smaller than half the spacing of the stored type and was rounded away"
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
