import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, DEMO, startCli } from "../support/cli.ts";
import { safetensorsFile } from "../support/safetensors.ts";
import { readTensors } from "../support/tensor-files.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");
const model = (name: string) => join(FIXTURES, "models", name);
const forward = (name: string, ...path: string[]) => join(FIXTURES, "forward", name, ...path);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-logits-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Tensors = Awaited<ReturnType<typeof readTensors>>;

/** Elements as numbers, and the shape. */
function numbers(tensors: Tensors, name: string) {
  const { dtype, shape, bytes } = tensors.get(name)!;
  const { buffer } = Uint8Array.from(bytes);
  const data =
    dtype === "I64" ? Float64Array.from(new BigInt64Array(buffer), Number) : new Float32Array(buffer);
  return { shape, data };
}

/** Largest difference of two tensors of one shape, over the rows that count. */
function apart(
  [a, nameA]: readonly [Tensors, string],
  [b, nameB]: readonly [Tensors, string],
  counts: (row: number) => boolean = () => true,
): number {
  const [x, y] = [numbers(a, nameA), numbers(b, nameB)];
  expect(x.shape, nameA).toEqual(y.shape);
  const width = x.shape.at(-1)!;
  const differences = Array.from(x.data, (value, i) =>
    counts(Math.floor(i / width)) ? Math.abs(value - y.data[i]!) : 0,
  );
  return Math.max(...differences);
}

async function run(name: string, base: string, ...more: string[]) {
  const out = join(folder, `${name}-${more.length}.safetensors`);
  const input = forward(name, "logits.safetensors");
  const { code, stderr } = await cli(
    "logits",
    "--model",
    model(base),
    "--input",
    input,
    "--out",
    out,
    ...more,
  );
  expect(stderr).not.toContain("graftwork:");
  expect(code).toBe(0);
  return { made: await readTensors(out), golden: await readTensors(input) };
}

describe("logits", () => {
  it("are transformers' of a padded batch, of each text alone, with the hidden states of every layer", async () => {
    const { made, golden } = await run("llama-padded-batch", "llama-fp32", "--hidden");
    for (const seq of ["seq.0", "seq.1"]) {
      for (const part of ["embed", "hidden.0", "hidden.1", "final", "logits"]) {
        const name = `${seq}.${part}`;
        expect(apart([made, name], [golden, name]), name).toBeLessThan(2e-5);
      }
    }
    const mask = numbers(golden, "batch.attention_mask").data;
    expect(apart([made, "batch.logits"], [golden, "batch.logits"], (row) => mask[row] === 1)).toBeLessThan(
      2e-5,
    );
    const { shape, data } = numbers(made, "batch.logits");
    expect(shape).toEqual([2, 34, 128]);
    const padding = Array.from(mask).flatMap((real, row) =>
      real === 1 ? [] : [...data.subarray(row * 128, (row + 1) * 128)],
    );
    expect(padding).toHaveLength(13 * 128);
    expect(padding.every((value) => value === 0)).toBe(true);
    expect(numbers(made, "batch.attention_mask")).toEqual(numbers(golden, "batch.attention_mask"));
    expect(made.has("batch.hidden.1")).toBe(true);
  });

  it("are PEFT's with an adapter beside the model, and of other bytes without", async () => {
    const name = "llama-padded-batch";
    const { made, golden } = await run(name, "llama-fp32", "--adapter", forward(name, "adapter"));
    expect(apart([made, "seq.1.logits"], [golden, "seq.1.adapter.logits"])).toBeLessThan(2e-5);
    expect(apart([made, "seq.1.logits"], [golden, "seq.1.logits"])).toBeGreaterThan(0.1);
    expect([...made.keys()].some((tensor) => tensor.includes("hidden"))).toBe(false);
  });

  it("with a thousandth of the adapter are almost the model's own", async () => {
    const name = "llama-padded-batch";
    const adapter = `${forward(name, "adapter")}=0.001`;
    const { made, golden } = await run(name, "llama-fp32", "--adapter", adapter, "--threads", "1");
    const near = apart([made, "seq.0.logits"], [golden, "seq.0.logits"]);
    expect(near).toBeGreaterThan(2e-5);
    expect(near).toBeLessThan(2e-3);
  });

  it.each(["llama-score", "bert-score"])("of a classifier are one row a text: %s", async (name) => {
    const { made, golden } = await run(name, `${name}-fp32`, "--hidden");
    expect(numbers(made, "batch.logits").shape).toEqual([2, 3]);
    for (const tensor of ["seq.0.logits", "seq.1.logits", "batch.logits", "seq.1.final", "seq.1.hidden.1"]) {
      expect(apart([made, tensor], [golden, tensor]), tensor).toBeLessThan(2e-5);
    }
    const adapted = await run(name, `${name}-fp32`, "--adapter", forward(name, "adapter"));
    expect(apart([adapted.made, "batch.logits"], [golden, "batch.adapter.logits"])).toBeLessThan(2e-5);
  });

  it("do not depend on the side on which a batch is padded", async () => {
    const golden = await readTensors(forward("llama-padded-batch", "logits.safetensors"));
    const ids = [...numbers(golden, "seq.0.input_ids").data];
    const i64 = (name: string, values: number[]) => ({
      name,
      dtype: "I64" as const,
      shape: [1, values.length],
      bytes: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
    });
    const input = join(folder, "left.safetensors");
    const tensors = [
      i64("left.input_ids", [0, 0, 0, ...ids]),
      i64("left.attention_mask", [0, 0, 0, ...ids.map(() => 1)]),
    ];
    await writeFile(input, safetensorsFile(tensors));
    const out = join(folder, "left-out.safetensors");
    const found = await cli("logits", "--model", model("llama-fp32"), "--input", input, "--out", out);
    expect(found.code).toBe(0);
    const { shape, data } = numbers(await readTensors(out), "left.logits");
    expect(shape).toEqual([1, 24, 128]);
    const expected = numbers(golden, "seq.0.logits").data;
    const differences = Array.from(expected, (value, i) => Math.abs(value - data[3 * 128 + i]!));
    expect(Math.max(...differences)).toBeLessThan(2e-5);
  });

  it("of texts are those of the model's own tokens, which stand beside them", async () => {
    const golden = await readTensors(join(DEMO, "logits/sentiment.safetensors"));
    const out = join(folder, "texts.safetensors");
    const text = "Ticket 8747 from Olga.\nMessage: The box was torn and the bowl is damaged.";
    const base = ["--model", join(DEMO, "base"), "--out", out];
    const { code, stdout } = await cli("logits", ...base, "--text", text, "--text", "Review", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ output: out, texts: 2, names: ["text.0", "text.1"] });
    const made = await readTensors(out);
    const [ids, known] = [numbers(made, "text.0.input_ids").data, numbers(golden, "text.0.input_ids").data];
    const shared = [...ids].findIndex((id, i) => id !== known[i]);
    const count = shared === -1 ? ids.length : shared;
    expect(count).toBeGreaterThan(10);
    const width = numbers(made, "text.0.logits").shape.at(-1)!;
    const [a, b] = [numbers(made, "text.0.logits").data, numbers(golden, "text.0.base").data];
    const differences = Array.from(a.subarray(0, count * width), (value, i) => Math.abs(value - b[i]!));
    expect(Math.max(...differences)).toBeLessThan(5e-5);
  });
});

describe("a run of logits that ends early", () => {
  it("leaves nothing where it is interrupted", async () => {
    const ids = Array.from({ length: 6000 }, (_, i) => BigInt(i % 128));
    const bytes = new Uint8Array(BigInt64Array.from([...ids, ...ids, ...ids, ...ids]).buffer);
    const input = join(folder, "long.safetensors");
    await writeFile(input, safetensorsFile([{ name: "a.input_ids", dtype: "I64", shape: [4, 6000], bytes }]));
    const out = join(folder, "interrupted.safetensors");
    const { child, finished } = startCli(
      "logits",
      "--model",
      model("llama-fp32"),
      "--input",
      input,
      "--out",
      out,
    );
    child.stderr!.on("data", (text: string) => {
      if (text.includes("logits: ")) child.kill("SIGINT");
    });
    const { code, stderr } = await finished;
    expect(stderr).toContain("graftwork: INTERRUPTED: ");
    expect(code).toBe(1);
    expect((await readdir(folder)).filter((name) => name.includes("interrupted"))).toEqual([]);
  });
});

describe("logits are refused", () => {
  const input = forward("llama-padded-batch", "logits.safetensors");

  it.each([
    ["without a text", ["--model", "m", "--out", "o"], "give either --input or --text"],
    [
      "with both",
      ["--model", "m", "--out", "o", "--input", "i", "--text", "t"],
      "give either --input or --text",
    ],
  ])("%s as wrong usage", async (_, args, says) => {
    const { code, stderr } = await cli("logits", ...args);
    expect(code).toBe(2);
    expect(stderr).toContain(says);
  });

  it("for tokens beyond the vocabulary, and nothing is left", async () => {
    const bad = join(folder, "beyond.safetensors");
    const bytes = new Uint8Array(BigInt64Array.of(5n, 128n).buffer);
    await writeFile(bad, safetensorsFile([{ name: "a.input_ids", dtype: "I64", shape: [2], bytes }]));
    const out = join(folder, "beyond-out.safetensors");
    const { code, stderr } = await cli(
      "logits",
      "--model",
      model("llama-fp32"),
      "--input",
      bad,
      "--out",
      out,
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/TOKEN_OUT_OF_RANGE: .*128/);
    expect((await readdir(folder)).filter((name) => name.includes("beyond-out"))).toEqual([]);
  });

  it("where the output exists, before anything is read", async () => {
    const out = join(folder, "exists.safetensors");
    await writeFile(out, "mine");
    const { code, stderr } = await cli("logits", "--model", "nowhere", "--input", input, "--out", out);
    expect(code).toBe(1);
    expect(stderr).toContain("OUTPUT_EXISTS");
  });

  it("inside the model's own folder, which they would change", async () => {
    const out = join(model("llama-fp32"), "logits.safetensors");
    const { code, stderr } = await cli(
      "logits",
      "--model",
      model("llama-fp32"),
      "--input",
      input,
      "--out",
      out,
    );
    expect(code).toBe(1);
    expect(stderr).toContain("OUTPUT_INSIDE_INPUT");
  });

  it("of an adapter in the place of the model", async () => {
    const args = ["--model", forward("llama", "adapter"), "--input", input, "--out", join(folder, "no")];
    const { code, stderr } = await cli("logits", ...args);
    expect(code).toBe(1);
    expect(stderr).toContain("NOT_A_CHECKPOINT");
  });
});
