import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { NamedSide } from "../../../src/engine/evaluation/pair.ts";
import { rawNumbers } from "../../../src/engine/forward/raw.ts";
import { locate, openSides, storedSide } from "../../support/forward.ts";
import { type LoadedTensor, loadTensors } from "../../support/tensors.ts";

/*
 * Logits and hidden states of transformers, for every architecture and RoPE type: base, adapter beside it (un-merged),
 * and merged.
 */
const FORWARD = resolve(import.meta.dirname, "../../fixtures/forward");
const cases = readdirSync(FORWARD).sort();

/** Largest absolute error of a logit, and relative error (Frobenius) of a hidden state. */
const MAX_LOGIT = 2e-5;
const MAX_HIDDEN = 1e-5;

interface Found {
  logits: number;
  hidden: number;
}

const table: string[] = [];
afterAll(() => {
  console.log(["case                      base     adapter  merged   hidden", ...table].join("\n"));
});

function isPadded(tensors: ReadonlyMap<string, LoadedTensor>): boolean {
  return tensors.has("batch.input_ids");
}

/** Runs every sequence of a case, and compares with what `<sequence>.<variant>…` holds. */
async function compare(
  side: NamedSide,
  tensors: ReadonlyMap<string, LoadedTensor>,
  variant: string,
): Promise<Found> {
  const open = await openSides([side]);
  const found = { logits: 0, hidden: 0 };
  for (const name of tensors.keys()) {
    const [, sequence] = /^(seq\.\d+)\.input_ids$/.exec(name) ?? [];
    if (sequence === undefined) continue;
    const parts = new Map<string, number[]>();
    await rawNumbers(open.forward, tensors.get(name)!.data as Int32Array, {
      hidden: variant === "",
      each: (tensor) =>
        parts.set(tensor.name, [
          ...(tensor.name === "logits" ? (parts.get("logits") ?? []) : []),
          ...tensor.data,
        ]),
    });
    for (const [part, values] of parts) {
      const want = tensors.get(part === "logits" ? `${sequence}.${variant}logits` : `${sequence}.${part}`);
      if (!want) continue;
      expect(values.length, `${sequence}.${part}`).toBe(want.data.length);
      if (part === "logits") found.logits = Math.max(found.logits, maxAbs(values, want.data));
      else found.hidden = Math.max(found.hidden, relative(values, want.data));
    }
    if (variant === "") expect([...parts.keys()]).toContain("hidden.1");
  }
  await open.close();
  return found;
}

function maxAbs(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let max = 0;
  for (let i = 0; i < b.length; i++) max = Math.max(max, Math.abs(a[i]! - b[i]!));
  return max;
}

function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [squares, differences] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    squares += b[i]! ** 2;
    differences += (a[i]! - b[i]!) ** 2;
  }
  return Math.sqrt(differences / squares);
}

describe("a forward pass", () => {
  it.each(cases)("gives the logits and hidden states of transformers: %s", async (name) => {
    const folder = join(FORWARD, name);
    const { base: path } = JSON.parse(readFileSync(join(folder, "case.json"), "utf8")) as { base: string };
    const tensors = loadTensors(join(folder, "logits.safetensors"));
    const base = await locate(join(folder, path));
    const plain = await compare(storedSide(base), tensors, "");
    table.push(`${name.padEnd(24)} ${plain.logits.toExponential(1)} ${plain.hidden.toExponential(1)}`);
    expect(plain.logits).toBeLessThanOrEqual(MAX_LOGIT);
    expect(plain.hidden).toBeLessThanOrEqual(MAX_HIDDEN);
    expect(isPadded(tensors) || tensors.has("seq.1.input_ids")).toBe(true);
  });
});
