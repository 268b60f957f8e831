import type { HeadSpec } from "../../core/decoder/spec.ts";
import type { Batch } from "./batch.ts";
import type { Forward } from "./forward.ts";
import { type Matrix, matrix, rowsOf } from "./matrix.ts";

/** Logits that exist at once, of all sides together: 96 MB. */
const SLICE_ELEMENTS = 24 * 2 ** 20;
/** Narrower products are slow. */
const LEAST_COLUMNS = 256;

/** Some columns of the logits of every side, from column `column` on; null where a side has no row. Must not be kept. */
export type SeesLogits = (parts: readonly (Matrix | null)[], column: number) => void;

/**
 * The head of all sides. Of a vocabulary in slices: each block of the head's rows is read once, and logits never exist
 * whole. Of a classifier one row for each document.
 * @param hidden states after the last norm; of a vocabulary only the rows whose logits are wanted
 */
export async function runHead(
  forward: Forward,
  hidden: readonly Matrix[],
  { batch, documents, sees }: { batch: Batch; documents: readonly number[]; sees: SeesLogits },
): Promise<void> {
  const { head } = forward.model;
  if (head.form === "vocabulary") return await vocabulary(forward, hidden, { head, sees });
  const pooled = await pool(forward, hidden, { batch, documents });
  const logits = await forward.linears.apply(head.linear, pooled);
  sees(logits, 0);
}

async function vocabulary(
  { linears, ops }: Forward,
  hidden: readonly Matrix[],
  { head, sees }: { head: Extract<HeadSpec, { form: "vocabulary" }>; sees: SeesLogits },
): Promise<void> {
  const rows = hidden.reduce((sum, x) => sum + x.rows, 0);
  const columns = linears.columns(head.linear);
  const width = Math.min(columns, Math.max(LEAST_COLUMNS, Math.floor(SLICE_ELEMENTS / Math.max(1, rows))));
  await linears.slices(head.linear, hidden, {
    width,
    each: async (column, slices) => {
      const made: (Matrix | null)[] = [];
      for (const slice of slices) made.push(slice && slice.rows > 0 ? await ops.logits(slice, head) : null);
      sees(made, column);
      for (const one of made) if (one) ops.give(one);
    },
  });
}

/** What a classifier reads of each document. BERT's pooler comes first, as "final" of the reference data says. */
export async function pool(
  { model, linears, ops }: Forward,
  hidden: readonly Matrix[],
  { batch, documents }: { batch: Batch; documents: readonly number[] },
): Promise<Matrix[]> {
  const { head } = model;
  const picked = hidden.map((x, side) => {
    const made = matrix(documents[side]!, x.cols);
    batch.sequences.slice(0, documents[side]).forEach(({ begin, end }, i) => {
      const row =
        head.form === "pooled" ? begin : begin + lastToken(batch.ids(side).subarray(begin, end), head);
      made.data.set(rowsOf(x, row, row + 1).data, i * x.cols);
    });
    return made;
  });
  if (head.form !== "pooled") return picked;
  const pooled = await linears.apply(head.pooler, picked);
  const made: Matrix[] = [];
  for (const x of pooled) made.push(await ops.activate(x!, "tanh"));
  return made;
}

/** As transformers pools: the last token that is not the padding token, even where that one is a part of the text. */
function lastToken(ids: Int32Array, head: HeadSpec): number {
  const pad = head.form === "last-token" ? head.padToken : null;
  return Math.max(0, pad === null ? ids.length - 1 : ids.findLastIndex((id) => id !== pad));
}
