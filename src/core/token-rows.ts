import { AppError } from "./errors.ts";

/** The real tokens of one row of a batch, padding left out. */
export interface TokenRow {
  readonly ids: Int32Array;
  /** Positions of padding before them. */
  readonly begin: number;
}

/** One `<name>.input_ids` of a file. */
export interface TokenInput {
  /** What stands before `input_ids`, with its dot; "" where nothing does. */
  readonly prefix: string;
  /** Of input_ids: [tokens] of a text, or [rows, tokens] of a batch. */
  readonly shape: readonly number[];
  readonly rows: readonly TokenRow[];
}

export interface StoredInts {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number | bigint>;
}

const MAX_ID = 2 ** 31 - 1;

/**
 * Cuts padding off the rows of a batch: each row runs alone, so that what stands beside it cannot matter. Padding may
 * stand on either side of a row's tokens, or on both.
 * @param mask as transformers has it: 1 at tokens, 0 at padding, of the shape of `ids`; null: no padding
 * @throws BAD_INPUT naming the tensor: a shape that is neither a text nor a batch, an id that is no token's, a mask of
 *   another shape, with other values, with a hole, or that leaves nothing of a row
 */
export function readTokenInput(prefix: string, ids: StoredInts, mask: StoredInts | null): TokenInput {
  const { shape } = ids;
  const [name, maskName] = [`${prefix}input_ids`, `${prefix}attention_mask`];
  if (shape.length !== 1 && shape.length !== 2) {
    const found = `[${shape.join(", ")}]`;
    throw bad(name, `has the shape ${found}: write [tokens] for a text or [rows, tokens] for a batch.`);
  }
  if (mask && (mask.shape.length !== shape.length || mask.shape.some((size, i) => size !== shape[i]))) {
    throw bad(maskName, `has the shape [${mask.shape.join(", ")}], ${name} has [${shape.join(", ")}].`);
  }
  const tokens = shape.at(-1)!;
  const count = shape.length === 1 ? 1 : shape[0]!;
  if (tokens === 0 || count === 0) throw bad(name, "holds no token.");
  const rows = Array.from({ length: count }, (_, row) => {
    const at = row * tokens;
    const { begin, end } = mask
      ? span(mask.values, { at, tokens, name: maskName, row })
      : { begin: 0, end: tokens };
    const real = new Int32Array(end - begin);
    for (let i = 0; i < real.length; i++) real[i] = tokenId(ids.values[at + begin + i]!, name);
    return { ids: real, begin };
  });
  return { prefix, shape, rows };
}

function tokenId(value: number | bigint, name: string): number {
  const id = Number(value);
  if (id >= 0 && id <= MAX_ID) return id;
  throw bad(name, `holds ${value}, which is no token's id: ids are whole numbers from 0 on.`);
}

interface RowOf {
  readonly at: number;
  readonly tokens: number;
  readonly name: string;
  readonly row: number;
}

/** From the first 1 to the last, all of which must be 1. */
function span(values: StoredInts["values"], { at, tokens, name, row }: RowOf) {
  let [begin, end, ones] = [tokens, 0, 0];
  for (let i = 0; i < tokens; i++) {
    const value = Number(values[at + i]!);
    if (value !== 0 && value !== 1) throw bad(name, `holds ${value} in row ${row}: a mask holds 0 and 1.`);
    if (value === 0) continue;
    begin = Math.min(begin, i);
    end = i + 1;
    ones++;
  }
  if (ones === 0) throw bad(name, `masks every token of row ${row}.`);
  if (ones < end - begin) {
    throw bad(
      name,
      `has a hole in row ${row}: padding may stand before and after the tokens, not between them. Write the row without it.`,
    );
  }
  return { begin, end };
}

function bad(tensor: string, what: string): AppError {
  return new AppError("BAD_INPUT", `${tensor} ${what}`, { details: { tensor } });
}
