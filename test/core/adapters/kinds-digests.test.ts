import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { MergeableDtype } from "../../../src/core/dtype.ts";
import type { JsonObject } from "../../../src/core/json.ts";
import { roundToBits } from "../../../src/core/numerics.ts";
import { type Given, merge, type Nested } from "../../support/adapters.ts";

/*
 * The cases under test/fixtures/merge have bases of BF16, in which many a difference rounds away. Here PEFT merged into
 * F32 and F16: see test/oracle/kinds_digests.py, which says how the numbers are made.
 */

interface Listed {
  readonly shape: number[];
  /** Which tensor it is, for its numbers. */
  readonly t?: number;
  readonly values?: number[];
  readonly zeros?: true;
}

interface Case {
  readonly kind: string;
  /** `q_proj`, or `c_attn`: a Conv1D. */
  readonly layer: string;
  readonly dtype: MergeableDtype;
  readonly config: JsonObject;
  readonly tensors: Readonly<Record<string, Listed>>;
  readonly sha256: string;
}

const file = join(import.meta.dirname, "../../fixtures/kinds-digests.json");
const { rows, columns, cases } = JSON.parse(readFileSync(file, "utf8")) as {
  rows: number;
  columns: number;
  cases: Case[];
};

const numberAt = (i: number, t: number) => (((i * 7919 + t * 104_729) % 2003) - 1001) / 4096;

function nested(shape: readonly number[], at: (i: number) => number, first = 0): Nested {
  const [length = 0, ...rest] = shape;
  const size = rest.reduce((product, dim) => product * dim, 1);
  return Array.from({ length }, (_, i) =>
    rest.length === 0 ? at(first + i) : nested(rest, at, first + i * size),
  );
}

function given({ shape, t, values }: Listed): Given {
  if (values) return { dtype: "I32", values: nested(shape, (i) => values[i]!) };
  return nested(shape, (i) => (t === undefined ? 0 : numberAt(i, t)));
}

describe("the float32 steps of the rarer kinds are PEFT's, bit for bit", () => {
  it.each(cases)("$kind into $layer of $dtype", ({ layer, dtype, config, tensors, sha256 }) => {
    const weight = `attn.${layer}.weight`;
    const shape = layer === "c_attn" ? [columns, rows] : [rows, columns];
    const merged = merge({
      base: { [weight]: { dtype, values: nested(shape, (i) => numberAt(i, 0)) } },
      adapter: Object.fromEntries(Object.entries(tensors).map(([name, listed]) => [name, given(listed)])),
      config,
      ...(layer === "c_attn" && { model: { model_type: "gpt2" } }),
    });
    expect(merged.problems).toEqual([]);
    const bits = merged.stored(weight, dtype).map((value) => roundToBits(dtype, value));
    const words = dtype === "F32" ? Uint32Array.from(bits) : Uint16Array.from(bits);
    expect(createHash("sha256").update(new Uint8Array(words.buffer)).digest("hex")).toBe(sha256);
  });
});
