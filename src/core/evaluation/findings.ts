import type { Hypothesis } from "./hypotheses.ts";
import type { Reason } from "./report.ts";
import type { TouchedTensor } from "./retention.ts";
import { counted, figure } from "./wording.ts";

/** What is wrong with one touched tensor. */
export interface Fault {
  readonly found: TouchedTensor;
  readonly code: Hypothesis["code"] | "NOT_FINITE" | "UNMOVED" | "DAMAGED" | "MORE" | "OTHER";
  /** What the code does not say: a factor, another tensor, a type. */
  readonly detail: string;
}

/** How the kinds of faults that tell themselves are put: what was found, and what to do. */
const WORDS: Readonly<Record<Hypothesis["code"], (detail: string) => readonly [what: string, next: string]>> =
  {
    ALPHA_IGNORED: (factor) => [
      `the adapter's change is in it ${factor} times, as if its scale (alpha over rank) were 1`,
      "Merge again with a tool that reads lora_alpha from adapter_config.json.",
    ],
    SCALE_APPLIED_TWICE: (factor) => [
      `the adapter's change is in it ${factor} times: its scale (alpha over rank) was applied twice, or, where that is 2, the adapter`,
      "Merge again from the plain base, and scale the factors once.",
    ],
    MERGED_TWICE: () => [
      "the adapter's change is in it twice",
      "Merge into the plain base: this one held the adapter already.",
    ],
    SIGN_FLIPPED: () => [
      "the adapter's change was taken away instead of added",
      "Merge again: an un-merge was run, or a weight of −1 was given.",
    ],
    SCALE_WRONG: (factor) => [
      `the adapter's change is in it ${factor} times`,
      "Merge again with the alpha, rank and rsLoRA setting of adapter_config.json, and the weight 1.",
    ],
    MODULES_SWAPPED: (other) => [
      `what was added to it is the change of ${other}`,
      "Merge again: the adapter's tensors were mapped to the wrong modules.",
    ],
    FACTORS_TRANSPOSED: () => [
      "what was added to it is the transpose of the adapter's change",
      "Merge again: lora_A and lora_B were swapped, or the product was transposed for a layer that stores its weight (out, in).",
    ],
    PRECISION_LOST: (type) => [
      `the adapter's change is in it, but rounded to ${type} before it was stored`,
      `Merge in the type that the candidate is stored in, or store it as ${type}.`,
    ],
  };

const isTold = (code: Fault["code"]): code is Hypothesis["code"] => Object.hasOwn(WORDS, code);

/** One reason for each kind of fault that tells itself. */
export function toldReasons(faults: readonly Fault[]): Reason[] {
  const byCode = Map.groupBy(
    faults.filter(({ code }) => isTold(code)),
    ({ code }) => code,
  );
  return [...byCode].map(([code, group]) => {
    const [first] = group as [Fault];
    const [what, next] = WORDS[code as Hypothesis["code"]](first.detail);
    const where = group.length === 1 ? "" : ` and ${counted(group.length - 1, "other tensor")} alike`;
    const also = code === "MODULES_SWAPPED" && group.length > 1 ? ` (${pairs(group)})` : "";
    const text = `${first.found.tensor}${where}: ${what}${also} (${evidence(first.found)}). ${next}`;
    return reasonOf(code, text, first.found);
  });
}

const pairs = (group: readonly Fault[]) =>
  group
    .slice(1, 4)
    .map(({ found, detail }) => `${found.tensor} has that of ${detail}`)
    .join(", ") + (group.length > 4 ? ", …" : "");

/** The numbers behind a fault. */
export function evidence({ sums, distance, dtype }: TouchedTensor): string {
  const parts: string[] = [];
  if (sums && sums.delta > 0) {
    parts.push(`projection ${figure(sums.together / sums.delta)}`);
    const least = figure(Math.sqrt(sums.rightError / sums.delta));
    parts.push(
      `relative error ${figure(Math.sqrt(sums.error / sums.delta))}, of which storing as ${dtype} explains ${least}`,
    );
  }
  if (distance?.maxUlp) parts.push(`up to ${figure(distance.maxUlp)} ulp from the canonical value`);
  return parts.join("; ") || `${distance?.differing ?? 0} elements differ`;
}

export function reasonOf(
  code: string,
  message: string,
  { tensor, sums }: TouchedTensor,
  subject = tensor,
): Reason {
  const value = sums && sums.delta > 0 ? sums.together / sums.delta : null;
  return { code, level: 1, message, subject, value, threshold: null };
}
