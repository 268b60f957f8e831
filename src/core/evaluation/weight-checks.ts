import type { Check } from "../parity.ts";
import { isRight, type UntouchedTensor } from "./diagnosis.ts";
import type { Reason } from "./report.ts";
import { movedOf, type TouchedTensor } from "./retention.ts";
import { counted, figure } from "./wording.ts";

export interface WeightCheckInput {
  readonly touched: readonly TouchedTensor[];
  readonly untouched: readonly UntouchedTensor[];
  /** From level 0 and 1; a failed check speaks in the words of its reasons. */
  readonly reasons: readonly Reason[];
  readonly maxUlp: number;
  /** The candidate is computed from the recipe: nothing is read that could differ. */
  readonly computed: boolean;
}

/** The questions that only reading the tensors answers. */
export function weightChecks(input: WeightCheckInput): Check[] {
  const { touched, untouched, reasons, maxUlp, computed } = input;
  const told = (...codes: string[]) =>
    reasons.filter(({ code }) => codes.includes(code)).map(({ message }) => message);
  const nonFinite = [...touched, ...untouched].some((one) => one.nonFinite > 0);
  const changed = untouched.some(({ differing }) => differing > 0);
  const wrong = touched.filter((one) => !isRight(one, maxUlp));
  const read = computed ? touched.length : touched.length + untouched.length;
  const checks: Check[] = [
    check(0, "every element is finite", !nonFinite, told("NOT_FINITE"), counted(read, "tensor")),
    check(
      0,
      "the merge changes something",
      touched.some((one) => movedOf(one) > 0 || one.nonFinite > 0),
      firstOf(
        told("NO_EFFECT", "ROUNDED_AWAY"),
        touched.length === 0 ? told("MISSING_TENSOR", "SHAPE_MISMATCH", "DTYPE_MISMATCH") : [],
      ),
      `${touched.filter((one) => movedOf(one) > 0).length} of ${counted(touched.length, "adapted tensor")} moved`,
    ),
  ];
  if (computed) return checks;
  return [
    ...checks,
    check(
      1,
      "untouched tensors are the base's",
      !changed,
      firstOf(told("UNTOUCHED_CHANGED", "BASE_DIFFERS"), told("ADAPTER_DIFFERS", "NOT_FINITE")),
      untouchedDetail(untouched),
    ),
    check(
      1,
      "touched tensors are base + adapter",
      wrong.length === 0,
      firstOf(toldLevelOne(reasons), told("NOT_FINITE", "NO_EFFECT")),
      touchedDetail(touched),
    ),
  ];
}

/** What is said already of the same tensors, more closely first. */
const firstOf = (...told: readonly (readonly string[])[]) => told.find((some) => some.length > 0) ?? [];

const toldLevelOne = (reasons: readonly Reason[]) =>
  reasons
    .filter(({ level, code }) => level === 1 && code !== "UNTOUCHED_CHANGED")
    .map(({ message }) => message);

function check(level: 0 | 1, name: string, passed: boolean, told: readonly string[], detail: string): Check {
  return { level, name, passed, detail: passed || told.length === 0 ? detail : told.join(" ") };
}

function untouchedDetail(untouched: readonly UntouchedTensor[]): string {
  const cast = untouched.filter(({ identical }) => !identical).length;
  const bytes = `${counted(untouched.length - cast, "tensor")} byte for byte`;
  return cast === 0 ? bytes : `${bytes}, ${cast} in another type or with other zeros, value by value`;
}

function touchedDetail(touched: readonly TouchedTensor[]): string {
  const elements = touched.reduce((sum, one) => sum + one.elements, 0);
  const differing = touched.reduce((sum, one) => sum + (one.distance?.differing ?? 0), 0);
  const ulps = Math.max(0, ...touched.map((one) => one.distance?.maxUlp ?? 0));
  const all = `${counted(touched.length, "tensor")}, ${counted(elements, "element")}`;
  if (touched.every(({ distance }) => distance === null)) return `${all}, by the change that is in them`;
  if (differing === 0) return `${all}, each the canonical value`;
  return `${all}; ${counted(differing, "element")} not the canonical value, by at most ${figure(ulps)} ulp at the larger of |W| and |W′|`;
}
