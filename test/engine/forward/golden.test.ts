import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { NamedSide } from "../../../src/engine/evaluation/pair.ts";
import { candidateSide, checkpointSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { rawNumbers } from "../../../src/engine/forward/raw.ts";
import { digested, locate, openSides } from "../../support/forward.ts";
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
  console.log(["case                     base      adapter   merged    hidden states", ...table].join("\n"));
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

/** A padded batch, each row alone without its padding. */
async function comparePadded(
  side: NamedSide,
  tensors: ReadonlyMap<string, LoadedTensor>,
  variant: string,
): Promise<number> {
  const [ids, mask] = ["input_ids", "attention_mask"].map((part) => tensors.get(`batch.${part}`)!) as [
    LoadedTensor,
    LoadedTensor,
  ];
  const want = tensors.get(`batch.${variant}logits`)!;
  const [rows, length] = ids.shape as [number, number];
  const open = await openSides([side]);
  let worst = 0;
  for (let row = 0; row < rows; row++) {
    const isReal = (i: number) => mask.data[row * length + i] === 1;
    const real = (ids.data as Int32Array).slice(row * length, (row + 1) * length).filter((_, i) => isReal(i));
    const width = want.data.length / rows;
    await rawNumbers(open.forward, real, {
      hidden: false,
      each: ({ name, data }) => {
        if (name !== "logits") return;
        const part = want.data.subarray(row * width, row * width + data.length);
        worst = Math.max(worst, maxAbs(data, part));
      },
    });
  }
  await open.close();
  return worst;
}

describe("a forward pass", () => {
  it.each(cases)(
    "gives the logits and hidden states of transformers, and of PEFT beside and merged into them: %s",
    async (name) => {
      const folder = join(FORWARD, name);
      const { base: path } = JSON.parse(readFileSync(join(folder, "case.json"), "utf8")) as { base: string };
      const tensors = await loadTensors(join(folder, "logits.safetensors"));
      const base = await locate(join(folder, path));
      const adapter = { ...(await digested(await locate(join(folder, "adapter")))), weight: 1 };
      const inputs = { base, sources: [adapter], choices: { weights: [1], tokenizer: null } };
      const reference = referenceSide(inputs);
      const sides = [
        ["", checkpointSide(base)],
        ["adapter.", reference],
        ["merged.", candidateSide({ ...inputs, candidate: null, plan: reference.plan })],
      ] as const;
      const shown: string[] = [];
      for (const [variant, side] of sides) {
        const found = await compare(side, tensors, variant);
        const logits = isPadded(tensors)
          ? Math.max(found.logits, await comparePadded(side, tensors, variant))
          : found.logits;
        expect(logits, variant).toBeLessThanOrEqual(MAX_LOGIT);
        expect(found.hidden, variant).toBeLessThanOrEqual(MAX_HIDDEN);
        shown.push(logits.toExponential(1));
        if (variant === "") shown.push(found.hidden.toExponential(1));
      }
      const [plain, hidden, beside, merged] = shown;
      table.push(`${name.padEnd(24)} ${plain}   ${beside}   ${merged}   ${hidden}`);
      expect(reference.forms.computed).toBe(0);
    },
  );

  it("is the same from older spellings of a config", async () => {
    const folder = join(FORWARD, "llama-rope-yarn");
    const base = await locate(resolve(folder, "../../models/llama-rope-yarn-fp32"));
    const config = JSON.parse(readFileSync(join(folder, "config_legacy.json"), "utf8"));
    const tensors = await loadTensors(join(folder, "logits.safetensors"));
    const { logits } = await compare({ ...checkpointSide(base), config }, tensors, "");
    expect(logits).toBeLessThanOrEqual(MAX_LOGIT);
  });
});
