import { type Operand, operandsOf, type Segment, type Span, type Step } from "./program.ts";

/** Output elements that must be in one tile; more of them would take too much memory. */
const MAX_UNIT = 2 ** 20;

/**
 * Cuts the output into runs for which the same steps are done. Null where some value has no whole rows beside any tile
 * of a reasonable size.
 * @param least tiles are multiples of so many elements at least
 */
export function segmentsOf(steps: readonly Step[], result: Operand, least: number): Segment[] | null {
  const needed = reachable(steps, result);
  const limits = needed.flatMap((i) => limitsOf(steps[i]!));
  const edges = [...new Set(limits)].sort((a, b) => a - b);
  const items = needed
    .flatMap((i) => itemsOf(steps[i]!, i))
    .sort((a, b) => a.span.start - b.span.start || a.step - b.step);
  const segments: Segment[] = [];
  let active: Item[] = [];
  let next = 0;
  for (const [i, start] of edges.slice(0, -1).entries()) {
    const stop = edges[i + 1]!;
    active = active.filter(({ span }) => span.stop > start);
    for (; next < items.length && items[next]!.span.start <= start; next++) active.push(items[next]!);
    const unit = unitOf(active, { start, stop, least });
    if (unit === null) return null;
    const own = active.flatMap(({ step, isPart }) => (isPart ? [] : [step]));
    segments.push({ start, stop, unit, steps: own.sort((a, b) => a - b) });
  }
  return segments;
}

/** A step, or a prepared value that it reads parts of. */
interface Item {
  readonly step: number;
  readonly isPart: boolean;
  readonly span: Span;
  readonly rows: number;
}

function itemsOf(step: Step, position: number): Item[] {
  const parts = operandsOf(step).flatMap((of): Item[] =>
    of.kind === "part" ? [{ step: position, isPart: true, span: of.span, rows: of.count }] : [],
  );
  return [{ step: position, isPart: false, span: step.span, rows: step.rows }, ...parts];
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
  items: readonly Item[],
  { start, stop, least }: { start: number; stop: number; least: number },
): number | null {
  let unit = least;
  for (const { span, rows } of items) {
    const each = span.length / gcd(span.length, rows);
    if ((start - span.from) % each !== 0) return null;
    unit = (unit / gcd(unit, each)) * each;
    if (unit > MAX_UNIT) return null;
  }
  return (stop - start) % unit === 0 ? unit : null;
}

function gcd(a: number, b: number): number {
  while (b > 0) [a, b] = [b, a % b];
  return a;
}
