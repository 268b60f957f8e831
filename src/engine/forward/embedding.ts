import type { EmbeddingSpec } from "../../core/decoder/spec.ts";
import type { Batch } from "./batch.ts";
import { formOf } from "./linear.ts";
import { addRow, addScaled, type Matrix, matrix, multiplyRow, scaled } from "./matrix.ts";
import type { Norms } from "./norms.ts";
import type { Ops } from "./ops.ts";
import type { Side } from "./side.ts";
import type { Weights } from "./weights.ts";

export interface EmbeddingParts {
  readonly sides: readonly Side[];
  readonly weights: Weights;
  readonly norms: Norms;
  readonly ops: Ops;
}

/** The input of the first layer, one matrix a side: token rows (with a side's own branches), positions, segments, norm. */
export async function embed(
  spec: EmbeddingSpec,
  { batch, rows, parts }: { batch: Batch; rows: readonly number[]; parts: EmbeddingParts },
): Promise<Matrix[]> {
  const made: Matrix[] = [];
  for (const [index, side] of parts.sides.entries()) {
    const count = rows[index]!;
    const tokens = await tokenRows(side, spec.tokens, { ids: batch.ids(index).subarray(0, count), parts });
    const x = scaled(tokens, spec.scale);
    const added = (role: string, at: Int32Array) =>
      addScaled(x, matrix(count, x.cols, parts.weights.gather(formOf(side, role), side.name, at)), 1);
    if (spec.segments) {
      const { cols } = parts.weights.source(formOf(side, spec.segments), side.name);
      addRow(
        x,
        parts.weights.gather(formOf(side, spec.segments), side.name, new Int32Array(1)).subarray(0, cols),
      );
    }
    if (spec.positions) {
      const { offset, tensor } = spec.positions;
      added(
        tensor,
        batch.positions.subarray(0, count).map((position) => position + offset),
      );
    }
    made.push(spec.norm ? await parts.norms.one(spec.norm, x, index) : x);
  }
  return made;
}

async function tokenRows(
  side: Side,
  role: string,
  { ids, parts }: { ids: Int32Array; parts: EmbeddingParts },
): Promise<Matrix> {
  const { weights, ops } = parts;
  const form = formOf(side, role);
  const { rows, cols } = weights.source(form, side.name);
  let x = matrix(ids.length, cols, weights.gather(form, side.name, ids));
  if (form.kind !== "branches") return x;
  for (const { rank, left, right } of weights.terms(form.terms, side.name)) {
    const z = matrix(ids.length, rank);
    ids.forEach((id, i) => {
      z.data.set(left.subarray(id * rank, (id + 1) * rank), i * rank);
    });
    x = await ops.addProduct(x, z, matrix(rank, cols, right), "in-out");
  }
  if (form.factor) {
    const factor = weights.whole({ kind: "computed", task: form.factor.task }, side.name);
    if (form.factor.along === "columns") multiplyRow(x, factor);
    else {
      ids.forEach((id, i) => {
        for (let j = 0; j < cols; j++) x.data[i * cols + j]! *= factor[id]!;
      });
    }
    if (factor.length !== (form.factor.along === "columns" ? cols : rows)) {
      throw new Error(`${role}: a factor of ${factor.length} for [${rows}, ${cols}]`);
    }
  }
  return x;
}
