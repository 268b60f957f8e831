import { Batch } from "./batch.ts";
import type { Forward } from "./forward.ts";
import { pool, runHead } from "./head.ts";
import { type Matrix, matrix, putColumns } from "./matrix.ts";
import type { RawTensor } from "./protocol.ts";

/** Rows whose logits exist whole at once. */
const ROWS = 256;

/**
 * Logits of one sequence by the first side, and where asked for the hidden states: "embed", the input of layer 0;
 * "hidden.<i>", the output of layer i; "final", the output of the last norm (of BERT the pooler's). Logits come in blocks
 * of rows. Nothing more is computed before `each` has done with what came before.
 */
export async function rawNumbers(
  forward: Forward,
  ids: Int32Array,
  { hidden: wanted, each }: { hidden: boolean; each: (tensor: Omit<RawTensor, "sequence">) => unknown },
): Promise<void> {
  const batch = new Batch([ids]);
  const tell = (name: string, { rows, cols, data }: Matrix) =>
    each({ name, shape: [rows, cols], data: data.slice() });
  let taken: unknown;
  const [hidden] = await forward.run({
    batch,
    documents: [1],
    seen: (name, [x]) => {
      if (wanted) taken = tell(NAMES[name] ?? name.replace("layer ", "hidden."), x!);
    },
    between: async () => void (await taken),
  });
  await taken;
  const { head } = forward.model;
  if (head.form === "vocabulary") {
    for (let row = 0; row < hidden!.rows; row += ROWS) await logits(forward, hidden!, { row, tell });
    return;
  }
  if (head.form === "pooled" && wanted) {
    const [pooled] = await pool(forward, [hidden!], { batch, documents: [1] });
    await each({ name: "final", shape: [pooled!.cols], data: pooled!.data.slice() });
  }
  await runHead(forward, [hidden!], {
    batch,
    documents: [1],
    sees: ([part]) => {
      taken = each({ name: "logits", shape: [part!.cols], data: part!.data.slice() });
    },
  });
  await taken;
}

const NAMES: Readonly<Record<string, string>> = { embedding: "embed", "final norm": "final" };

async function logits(
  forward: Forward,
  hidden: Matrix,
  { row, tell }: { row: number; tell: (name: string, x: Matrix) => unknown },
): Promise<void> {
  const rows = Math.min(ROWS, hidden.rows - row);
  const { head } = forward.model;
  if (head.form !== "vocabulary") throw new Error("a classifier has no vocabulary");
  const part = matrix(rows, hidden.cols, hidden.data.subarray(row * hidden.cols, (row + rows) * hidden.cols));
  const whole = matrix(rows, forward.linears.columns(head.linear));
  await runHead(forward, [part], {
    batch: new Batch([new Int32Array(rows)]),
    documents: [1],
    sees: ([slice], column) => putColumns(whole, column, slice!),
  });
  await tell("logits", whole);
}
