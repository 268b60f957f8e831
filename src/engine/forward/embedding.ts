import type { EmbeddingSpec } from "../../core/decoder/spec.ts";
import { AppError } from "../../core/errors.ts";
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

/**
 * The input of the first layer, one matrix a side: rows of tokens, positions and segments (each with the side's own
 * branches), and the norm.
 */
export async function embed(
  spec: EmbeddingSpec,
  { batch, rows, parts }: { batch: Batch; rows: readonly number[]; parts: EmbeddingParts },
): Promise<Matrix[]> {
  const made: Matrix[] = [];
  for (const [index, side] of parts.sides.entries()) {
    const count = rows[index]!;
    const table = (role: string, ids: Int32Array) => tableRows(side, role, { ids, parts });
    const x = scaled(await table(spec.tokens, batch.ids(index).subarray(0, count)), spec.scale);
    if (spec.segments) addRow(x, (await table(spec.segments, new Int32Array(1))).data);
    if (spec.positions) {
      const { offset, tensor } = spec.positions;
      requirePositions(side, tensor, { batch, offset, parts });
      const at = batch.positions.subarray(0, count).map((position) => position + offset);
      addScaled(x, await table(tensor, at), 1);
    }
    made.push(spec.norm ? await parts.norms.one(spec.norm, x, index) : x);
  }
  return made;
}

/** @throws TEXT_TOO_LONG */
function requirePositions(
  side: Side,
  role: string,
  { batch, offset, parts }: { batch: Batch; offset: number; parts: EmbeddingParts },
): void {
  const most = parts.weights.source(formOf(side, role), side.name).rows - offset;
  const longest = batch.positions.reduce((length, position) => Math.max(length, position + 1), 0);
  if (longest <= most) return;
  throw new AppError(
    "TEXT_TOO_LONG",
    `a text of ${longest} tokens goes beyond the ${most} positions that the model has learnt: shorten it.`,
  );
}

/** Rows of a table by their numbers, one a token. */
async function tableRows(
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
