import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAdvice } from "../../src/core/evaluation/advice.ts";
import { cli, DEMO } from "../support/cli.ts";
import { readTensors, writeTensors } from "../support/tensor-files.ts";

const BASE = join(DEMO, "base");
const ADAPTER = join(DEMO, "adapters/sentiment");
const FIXTURES = join(DEMO, "..");

let folder: string;
let texts: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-advise-"));
  texts = join(folder, "texts.jsonl");
  const lines = (await readFile(join(DEMO, "eval.jsonl"), "utf8")).trim().split("\n");
  await writeFile(
    texts,
    lines
      .sort((a, b) => a.length - b.length)
      .slice(0, 30)
      .join("\n"),
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function advise(...args: string[]) {
  const { code, stdout, stderr } = await cli("advise", ...args, "--json");
  expect(stderr).not.toContain("INTERNAL");
  const { warnings, ...advice } = JSON.parse(stdout);
  return { code, warnings, advice };
}

describe("advise", () => {
  it("measures both ways of serving, and merges for one task", async () => {
    const { code, stdout } = await cli("advise", "--base", BASE, "--adapter", ADAPTER, "--texts", texts);
    expect(code).toBe(0);
    expect(stdout).toMatch(/on disk +5\.64 MB \+ 1\.31 MB an adapter +5\.64 MB each \(planned\)/);
    expect(stdout).toMatch(/to load +\S+ ms +\S+ ms/);
    expect(stdout).toMatch(/to the first token of 128 +\S+ ms +\S+ ms/);
    expect(stdout).toMatch(/a token +\S+ ms +\S+ ms/);
    expect(stdout).toMatch(/mean KLD, nats +the reference +\S+e-6/);
    expect(stdout).toContain("separate takes less disk from 2 adapters on, less memory from 2 adapters on");
    expect(stdout).toContain("merge it:");
    expect(stdout).toContain(
      `vllm serve ${BASE} --enable-lora --lora-modules sentiment=${ADAPTER} --max-lora-rank 16`,
    );
  });

  it("keeps several adapters beside one base, and takes the merged checkpoint that is there", async () => {
    const merged = join(folder, "merged");
    expect((await cli("merge", "--base", BASE, "--adapter", ADAPTER, "--out", merged)).code).toBe(0);
    const args = [
      "--base",
      BASE,
      "--adapter",
      ADAPTER,
      "--merged",
      merged,
      "--adapters",
      "12",
      "--texts",
      texts,
    ];
    const { code, advice } = await advise(...args);
    expect(code).toBe(0);
    expect(parseAdvice(advice)).toMatchObject({
      recommendation: "SEPARATE",
      planned: 12,
      mergedExists: true,
      times: { standIn: false, promptTokens: 128, newTokens: 16, weightsKept: true },
      parity: { verdict: "PASSED" },
      commands: { merged: `vllm serve ${merged}` },
    });
    expect(advice.reasons[0].code).toBe("SEVERAL_TASKS");
    const { separate, merged: whole } = advice.times;
    for (const side of [separate, whole]) {
      for (const time of [side.load, side.prefill, side.perToken]) expect(time).toBeGreaterThan(0);
    }
    expect(advice.perTokenCost).toBeCloseTo(separate.perToken / whole.perToken - 1, 10);
    expect(advice.retention.relativeError).toBeLessThan(0.05);
  });

  it("keeps the adapter of a quantised base apart, without a merge to measure", async () => {
    const base = join(folder, "quantised");
    await cp(BASE, base, { recursive: true });
    const config = JSON.parse(await readFile(join(base, "config.json"), "utf8"));
    const quantization_config = { quant_method: "bitsandbytes", load_in_4bit: true };
    await writeFile(join(base, "config.json"), JSON.stringify({ ...config, quantization_config }));
    const { code, advice } = await advise("--base", base, "--adapter", ADAPTER);
    expect(code).toBe(0);
    expect(advice).toMatchObject({
      recommendation: "SEPARATE",
      quantisation: { base: "bitsandbytes" },
      parity: null,
      times: null,
    });
    expect(advice.reasons[0].code).toBe("QUANTISED_BASE");
  });

  it("says nothing of sizes that no merge can have: into a base whose tensors are stored in 4 bits", async () => {
    const base = join(folder, "packed");
    await cp(BASE, base, { recursive: true });
    const config = JSON.parse(await readFile(join(base, "config.json"), "utf8"));
    const quantization_config = { quant_method: "bitsandbytes", load_in_4bit: true };
    await writeFile(join(base, "config.json"), JSON.stringify({ ...config, quantization_config }));
    const path = join(base, "model.safetensors");
    const tensors = await readTensors(path);
    for (const [name, { bytes }] of tensors) {
      if (!name.endsWith("proj.weight")) continue;
      const packed = bytes.subarray(0, bytes.byteLength / 4);
      tensors.set(name, { dtype: "U8", shape: [packed.byteLength, 1], bytes: packed });
    }
    await writeTensors(path, tensors);
    const args = ["--base", base, "--adapter", ADAPTER, "--adapters", "4"];
    const { code, advice } = await advise(...args);
    expect(code).toBe(0);
    expect(parseAdvice(advice)).toMatchObject({
      recommendation: "SEPARATE",
      disk: { merged: null },
      memory: { merged: null },
      breakEven: { disk: null, memory: null },
      parity: null,
    });
    const { stdout } = await cli("advise", ...args);
    expect(stdout).toContain("keep it separate:");
    expect(stdout).toMatch(/on disk .* not known/);
    expect(stdout).not.toContain("separate takes less");
  });

  it("merges what vLLM does not serve beside a base; without a tokenizer the answers stay open", async () => {
    const args = ["--base", join(FIXTURES, "models/llama-bf16")];
    const { advice } = await advise(
      ...args,
      "--adapter",
      join(FIXTURES, "merge/llama-dora/adapter"),
      "--adapters",
      "9",
    );
    expect(advice.recommendation).toBe("MERGE");
    expect(advice.reasons[0].code).toBe("NOT_SERVABLE");
    expect(advice.commands.separate).toBeNull();
    expect(advice.paritySkipped).toContain("tokenizer.json");
    expect(advice.times).not.toBeNull();
  });

  it("times no classifier, and says why", async () => {
    const args = ["--base", join(FIXTURES, "models/llama-score-bf16")];
    const { advice } = await advise(...args, "--adapter", join(FIXTURES, "merge/llama-score/adapter"));
    expect(advice.timesSkipped).toBe("A classifier generates no tokens.");
  });

  it("refuses what a merge would refuse", async () => {
    const args = ["--base", join(FIXTURES, "models/llama-bf16")];
    const { code, stdout } = await cli("advise", ...args, "--adapter", ADAPTER, "--json");
    expect(code).toBe(1);
    expect(JSON.parse(stdout).error.reasons.length).toBeGreaterThan(0);
  });
});
