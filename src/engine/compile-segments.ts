import { type Operand, operandsOf, type Segment, type Span, type Step } from "./program.ts";

/** Output elements that must be in one tile; more of them would take too much memory. */
const MAX_UNIT = 2 ** 21;

/**
 * Cuts the output into runs for which the same steps are done. Null where some value has no whole rows beside any tile
 * of a reasonable size.
 * @param least tiles are multiples of so many elements at least
 */
export function segmentsOf(steps: readonly Step[], result: Operand, least: number): Segment[] | null {
  const needed = reachable(steps, result);
  const limits = needed.flatMap((i) => limitsOf(steps[i]!));
  const edges = [...new Set(limits)].sort((a, b) => a - b);
  const begins = needed.toSorted((a, b) => steps[a]!.span.start - steps[b]!.span.start);
  const segments: Segment[] = [];
  let active: number[] = [];
  let next = 0;
  for (const [i, start] of edges.slice(0, -1).entries()) {
    const stop = edges[i + 1]!;
    active = active.filter((s) => steps[s]!.span.stop > start);
    for (; next < begins.length && steps[begins[next]!]!.span.start <= start; next++)
      active.push(begins[next]!);
    active.sort((a, b) => a - b);
    const unit = unitOf(
      active.map((s) => steps[s]!),
      { start, stop, least },
    );
    if (unit === null) return null;
    segments.push({ start, stop, unit, steps: active.slice() });
  }
  return segments;
}

/** Where a step's value, or the part that it is made of, begins and ends. */
function limitsOf(step: Step): number[] {
  const parts = step.op === "select" ? step.parts : [];
  return [step.span, ...parts].flatMap(({ start, stop }) => [start, stop]);
}

/** Positions of the steps that the result depends on, in order. */
function reachable(steps: readonly Step[], result: Operand): number[] {
  const found = new Set<number>();
  const visit = (operand: Operand) => {
    if (operand.kind !== "step" || found.has(operand.step)) return;
    found.add(operand.step);
    operandsOf(steps[operand.step]!).forEach(visit);
  };
  visit(result);
  return [...found].sort((a, b) => a - b);
}

function unitOf(
  steps: readonly Step[],
  { start, stop, least }: { start: number; stop: number; least: number },
): number | null {
  let unit = least;
  for (const step of steps)
    for (const { span, rows } of rowed(step)) {
      const each = span.length / gcd(span.length, rows);
      if ((start - span.from) % each !== 0) return null;
      unit = (unit / gcd(unit, each)) * each;
      if (unit > MAX_UNIT) return null;
    }
  return (stop - start) % unit === 0 ? unit : null;
}

/** A step and the prepared values that it reads parts of, with their rows. */
function rowed(step: Step): { span: Span; rows: number }[] {
  const parts = operandsOf(step).flatMap((of) =>
    of.kind === "part" ? [{ span: of.span, rows: of.count }] : [],
  );
  return [step, ...parts.filter(({ span }) => overlaps(span, step.span))];
}

const overlaps = (one: Span, other: Span) => one.start < other.stop && other.start < one.stop;

function gcd(a: number, b: number): number {
  while (b > 0) [a, b] = [b, a % b];
  return a;
}
