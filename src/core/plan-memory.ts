import { elementCount } from "./dtype.ts";
import { asLowRankUpdate, children, type Expr, readsBase } from "./expr.ts";
import { leafPart } from "./leaf-part.ts";
import type { PlanStep } from "./plan-layout.ts";
import { type ShapeLookup, shapeOf } from "./shapes.ts";

/** What a merge takes beside its threads: headers, plan, results. */
const PROCESS_BYTES = 100_000_000;
/** A thread with its engine, its code, the tile and the values made of it. */
const THREAD_BYTES = 48_000_000;

/** An estimate from above, in bytes. */
export interface MemoryEstimate {
  /** Once for a merge. */
  readonly process: number;
  /** For each thread: the largest operands that one tensor needs as a whole, beside what every thread takes. */
  readonly thread: number;
}

/**
 * How much memory a merge will take. Tensors stream through in tiles; what counts is what has to be there as a whole:
 * packed factors of a low-rank update, values that read no base tensor, and all of a tensor whose change cannot be
 * computed by rows.
 */
export function estimateMemory(
  steps: readonly Pick<PlanStep, "expr">[],
  shapes: ShapeLookup,
): MemoryEstimate {
  let operands = 0;
  for (const { expr } of steps) if (expr) operands = Math.max(operands, operandBytes(expr, shapes));
  return { process: PROCESS_BYTES, thread: THREAD_BYTES + operands };
}

export function memoryOf({ process, thread }: MemoryEstimate, threads: number): number {
  return process + threads * thread;
}

/** float32 copies of what is prepared, and float64 values while it is made. */
const PREPARED_BYTES = 4 + 8;
/** Adapter tensors that are used as they are stored are read, widened to float32 and packed. */
const PACKED_BYTES = 4;

function operandBytes(expr: Expr, shapes: ShapeLookup): number {
  const size = (of: Expr) => elementCount(shapeOf(of, shapes));
  const update = asLowRankUpdate(expr);
  const made = (of: Expr) => (leafPart(of) ? 0 : size(of) * PREPARED_BYTES);
  // The left factor is read with the rows that it belongs to.
  if (update) return size(update.right) * PACKED_BYTES + made(update.left) + made(update.right);
  return preparedBytes(expr, size);
}

/** The largest values below that read no base tensor: each of them is computed once, as a whole. */
function preparedBytes(expr: Expr, size: (of: Expr) => number): number {
  const seen = new Set<Expr>();
  let bytes = 0;
  const visit = (of: Expr) => {
    if (seen.has(of)) return;
    seen.add(of);
    if (!readsBase(of)) bytes += size(of) * PREPARED_BYTES;
    // The length of a base tensor's columns takes a pass over it, and a function may need its argument as a whole.
    else if (of.op === "call") bytes += of.args.reduce((sum, arg) => sum + size(arg) * PREPARED_BYTES, 0);
    else for (const child of children(of)) visit(child);
  };
  visit(expr);
  return bytes;
}
