import { beside, type Operand, operandsOf, type Segment, type Step, type TileProgram } from "./program.ts";

/** Where the values of a segment's steps lie while a tile is computed. */
export interface Layout {
  /** Output elements of a tile. */
  readonly height: number;
  /** Which buffer each step's value is in; a `select` has none of its own. */
  readonly buffers: ReadonlyMap<number, number>;
  /** Elements that each buffer has room for. */
  readonly sizes: readonly number[];
}

/**
 * Gives the steps of a segment as few buffers as their values, alive at the same time, need.
 * @param tileElements output elements of a tile, where whole rows fit
 */
export function layOut(program: TileProgram, segment: Segment, tileElements: number): Layout {
  const { unit, steps } = segment;
  const most = segment.stop - segment.start;
  const height = Math.min(most, Math.max(unit, Math.floor(tileElements / unit) * unit));
  const last = lastUses(program, segment);
  const buffers = new Map<number, number>();
  const sizes: number[] = [];
  const free: number[] = [];
  for (const index of steps) {
    const step = program.steps[index]!;
    if (step.op === "select") continue;
    const dying = operandsOf(step)
      .map((operand) => resolve(program, segment, operand))
      .flatMap((source) => (source.kind === "step" && last.get(source.step) === index ? [source.step] : []));
    const elements = Math.ceil(beside(step, height));
    const heir = isInPlace(step) ? dying.find((of) => program.steps[of]!.count === step.count) : undefined;
    if (heir !== undefined && sameSpan(program.steps[heir]!, step)) buffers.set(index, buffers.get(heir)!);
    else buffers.set(index, take(free, sizes, elements));
    for (const of of new Set(dying)) {
      const buffer = buffers.get(of)!;
      if (buffer !== buffers.get(index) && !free.includes(buffer)) free.push(buffer);
    }
  }
  return { height, buffers, sizes };
}

/** The operand behind choices between parts. */
export function resolve(program: TileProgram, segment: Segment, operand: Operand): Operand {
  if (operand.kind !== "step") return operand;
  const step = program.steps[operand.step]!;
  if (step.op !== "select") return operand;
  const part = step.parts.find(({ start, stop }) => start <= segment.start && segment.stop <= stop);
  return resolve(program, segment, part!.operand);
}

/** For each step the last one that reads it; none for the result. */
function lastUses(program: TileProgram, segment: Segment): Map<number, number> {
  const last = new Map<number, number>();
  for (const index of segment.steps) {
    const step = program.steps[index]!;
    if (step.op === "select") continue;
    for (const operand of operandsOf(step)) {
      const source = resolve(program, segment, operand);
      if (source.kind === "step") last.set(source.step, index);
    }
  }
  const result = resolve(program, segment, program.result);
  if (result.kind === "step") last.delete(result.step);
  return last;
}

/** Whether each element of the value depends on the same element of the operands alone, or is read before it is written. */
function isInPlace(step: Step): boolean {
  switch (step.op) {
    case "scale":
    case "over":
    case "round":
    case "relu":
    case "set-rows":
      return true;
    case "add":
    case "sub":
    case "mul":
    case "div":
      return true;
    default:
      return false;
  }
}

function sameSpan({ span: a }: Step, { span: b }: Step): boolean {
  return a.from === b.from && a.length === b.length;
}

function take(free: number[], sizes: number[], elements: number): number {
  const fitting = free.filter((buffer) => sizes[buffer]! >= elements);
  const buffer = fitting.sort((a, b) => sizes[a]! - sizes[b]!)[0] ?? free.at(-1);
  if (buffer === undefined) {
    sizes.push(elements);
    return sizes.length - 1;
  }
  free.splice(free.indexOf(buffer), 1);
  sizes[buffer] = Math.max(sizes[buffer]!, elements);
  return buffer;
}
