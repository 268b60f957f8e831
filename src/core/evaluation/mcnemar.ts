import { chiSquaredTail, fairBinomialTail } from "./distributions.ts";
import type { TasksReport } from "./report.ts";

/** From so many unequal pairs on, chi-squared stands for the binomial. */
const FEWEST_FOR_CHI_SQUARED = 25;

/**
 * McNemar's test (1947) of whether the two sides differ in accuracy, from the pairs of which one side alone is right.
 * Below 25 such pairs the exact two-sided binomial, p = min(1, 2·P(X ≤ the smaller count)), whose statistic is the
 * smaller count; from there on Edwards' (1948) chi-squared with continuity correction, (|b − c| − 1)² / (b + c).
 */
export function mcnemar(onlyReference: number, onlyCandidate: number): TasksReport["mcnemar"] {
  const unequal = onlyReference + onlyCandidate;
  if (unequal < FEWEST_FOR_CHI_SQUARED) {
    const smaller = Math.min(onlyReference, onlyCandidate);
    return { method: "exact", statistic: smaller, p: Math.min(1, 2 * fairBinomialTail(smaller, unequal)) };
  }
  // The correction takes half a step on each side; it must not make a difference of nothing one of something.
  const distance = Math.max(0, Math.abs(onlyReference - onlyCandidate) - 1);
  const statistic = distance ** 2 / unequal;
  return { method: "chi-squared", statistic, p: chiSquaredTail(statistic) };
}
