import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GrowingText } from "../../src/engine/evaluation/greedy.ts";
import { cli, DEMO } from "../support/cli.ts";

const BASE = join(DEMO, "base");
const ADAPTER = join(DEMO, "adapters/sentiment");
const behaviour = JSON.parse(await readFile(join(DEMO, "behaviour.json"), "utf8"));
const known = behaviour.adapters.sentiment.prompts as {
  prompt: string;
  base: { tokens: number[]; text: string };
  adapter: { tokens: number[]; text: string };
  merged: { tokens: number[]; text: string };
}[];

let folder: string;
let merged: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-generate-"));
  merged = join(folder, "merged");
  const { code } = await cli("merge", "--base", BASE, "--adapter", ADAPTER, "--out", merged);
  expect(code).toBe(0);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const generate = (...args: string[]) => cli("generate", ...args);

describe("generate", () => {
  it("writes the text of one prompt as it comes, and nothing else", async () => {
    const { prompt, adapter } = known[0]!;
    const args = ["--base", BASE, "--adapter", ADAPTER, "--prompt", prompt, "--max-new-tokens", "12"];
    const { code, stdout } = await generate(...args);
    expect(code).toBe(0);
    expect(stdout).toBe(`${adapter.text}\n`);
  });

  it("answers as transformers does, base + adapter and merged side by side, and says that they are alike", async () => {
    const prompts = join(folder, "prompts.jsonl");
    await writeFile(prompts, known.map(({ prompt }) => JSON.stringify({ prompt })).join("\n"));
    const args = ["--base", BASE, "--adapter", ADAPTER, "--merged", merged, "--prompts", prompts];
    const { code, stdout } = await generate(...args, "--max-new-tokens", "12", "--json");
    expect(code).toBe(0);
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ sides: ["base + adapter", "merged"], equal: true });
    const tokens = (side: number) =>
      document.prompts.map((one: { answers: { tokens: number[] }[] }) => one.answers[side]!.tokens);
    expect(tokens(0)).toEqual(known.map(({ adapter }) => adapter.tokens));
    expect(tokens(1)).toEqual(known.map((one) => one.merged.tokens));
  });

  it("shows where base and merged model differ", async () => {
    const { prompt, base, merged: other } = known.find((one) => one.base.text !== one.merged.text)!;
    const args = ["--base", BASE, "--merged", merged, "--prompt", prompt, "--max-new-tokens", "12"];
    const { code, stdout } = await generate(...args);
    expect(code).toBe(0);
    expect(stdout).toContain(`  base:${base.text}`);
    expect(stdout).toContain(`  merged:${other.text}`);
    expect(stdout).toContain("  DIFFERENT");
    expect(stdout).toContain("0 of 1 continuations are the same");
  });

  it.each([
    ["without a model", ["--prompt", "a"], "give --base, --merged or both"],
    ["an adapter without its base", ["--merged", "m", "--adapter", "a", "--prompt", "a"], "needs its --base"],
    ["without a prompt", ["--base", "b"], "give either --prompt or --prompts"],
    ["an empty prompt", ["--base", "b", "--prompt", ""], "--prompt is empty"],
  ])("is wrong usage %s", async (_, args, says) => {
    const { code, stderr } = await generate(...args);
    expect(code).toBe(2);
    expect(stderr).toContain(says);
  });

  it("is refused for a model without a chat template, and for a classifier", async () => {
    const chat = await generate("--base", BASE, "--chat", "--prompt", "Hello");
    expect([chat.code, chat.stderr]).toEqual([1, expect.stringContaining("CHAT_TEMPLATE_MISSING")]);
    const score = join(folder, "score");
    await cp(join(DEMO, "../models/llama-score-fp32"), score, { recursive: true });
    await cp(join(BASE, "tokenizer.json"), join(score, "tokenizer.json"));
    const found = await generate("--base", score, "--prompt", "Hello");
    expect([found.code, found.stderr]).toEqual([1, expect.stringContaining("NOT_GENERATIVE")]);
  });

  it("stops at its length, and says so", async () => {
    const args = ["--base", BASE, "--prompt", "Review by Yuki:", "--max-new-tokens", "3", "--json"];
    const { prompts } = JSON.parse((await generate(...args)).stdout);
    expect(prompts[0].answers[0]).toMatchObject({ ended: false });
    expect(prompts[0].answers[0].tokens).toHaveLength(3);
  });
});

describe("text that grows with its tokens", () => {
  /** A decoder of bytes, as a byte-level tokenizer's is. */
  const bytes = {
    decode: (ids: Iterable<number>) => new TextDecoder().decode(Uint8Array.from([...ids])),
  };

  it("waits for the rest of a character, and is whole in the end", () => {
    const growing = new GrowingText(bytes);
    const parts = [...new TextEncoder().encode("aé😀b")].map((id) => growing.add(id));
    expect(parts).toEqual(["a", "", "é", "", "", "", "😀", "b"]);
    expect(growing.rest()).toBe("");
  });

  it("shows at the end what never became a character", () => {
    const growing = new GrowingText(bytes);
    expect(growing.add(0x61)).toBe("a");
    expect(growing.add(0xc3)).toBe("");
    expect(growing.rest()).toBe("\uFFFD");
  });

  it("starts again where a decoder changes what came before", () => {
    const fickle = { decode: (ids: Iterable<number>) => ([...ids].length === 1 ? "x" : "yz") };
    const growing = new GrowingText(fickle);
    expect([growing.add(1), growing.add(2), growing.rest()]).toEqual(["x", "", "\nyz"]);
  });
});
