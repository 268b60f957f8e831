import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Progress } from "../../src/cli/progress.ts";
import { cli, DEMO, startCli } from "../support/cli.ts";
import { addHole } from "../support/tensor-files.ts";

describe("wrong usage ends with exit code 2 and shows how it is meant:", () => {
  it.each([
    { args: [], says: "no command is given" },
    { args: ["melt"], says: 'unknown command "melt"' },
    { args: ["help", "melt"], says: 'unknown command "melt"' },
    { args: ["inspect"], says: "DIR is missing" },
    { args: ["inspect", "a", "b"], says: '"b" is one argument too many' },
    { args: ["merge", "--base", "a", "--adapter", "b"], says: "--out is missing" },
    { args: ["merge", "--base"], says: "--base" },
    { args: ["plan", "--base", "a", "--adapter", "b", "--adapter", "c"], says: "--adapter is given twice" },
    { args: ["plan", "--base", "", "--adapter", "b"], says: "--base is empty" },
    {
      args: ["plan", "--base", "a", "--adapter", "b", "--tokenizer", "mine"],
      says: '--tokenizer must be "base"',
    },
    {
      args: ["plan", "--base", "a", "--adapter", "b", "--base-digest", "abc"],
      says: "--base-digest must be sha256:",
    },
    { args: ["verify", "a", "--threads", "0"], says: "--threads must be a whole number" },
    { args: ["verify", "a", "--fast"], says: "--fast" },
    ...[
      { more: ["--window", "1"], says: "--window must be a whole number from 2 to 1000000" },
      { more: ["--window", "-5"], says: "--window needs a value; write --window=VALUE" },
      { more: ["--seed=-1"], says: "--seed must be a whole number from 0 to 2147483647" },
      { more: ["--max-new-tokens", "0"], says: "--max-new-tokens must be a whole number from 1 to 4096" },
      { more: ["--window", "16", "--stride", "17"], says: "--stride 17 is more than --window 16" },
    ].map(({ more, says }) => ({ args: ["evaluate", "--base", "a", "--adapter", "b", ...more], says })),
  ])("$args", async ({ args, says }) => {
    const { code, stdout, stderr } = await cli(...args);
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain(says);
    expect(stderr).toContain("usage: graftwork");
  });

  it("with --json as one document", async () => {
    const { code, stdout } = await cli("merge", "--json");
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toEqual({ error: { code: "USAGE", message: "--base is missing" } });
  });
});

describe("help and version", () => {
  it("name every command and every option", async () => {
    const [overview, version, merge, same] = await Promise.all([
      cli("help"),
      cli("version"),
      cli("merge", "--help"),
      cli("help", "merge"),
    ]);
    for (const command of ["inspect", "plan", "verify", "evaluate", "logits", "generate", "advise"])
      expect(overview.stdout).toContain(command);
    expect(version.stdout).toMatch(/^graftwork \d+\.\d+\.\d+ \(arithmetic peft-1\)\n$/);
    for (const option of [
      "--base DIR",
      "--adapter DIR",
      "--out DIR",
      "--strict-base",
      "--threads N",
      "--json",
    ]) {
      expect(merge.stdout).toContain(option);
    }
    expect(same.stdout).toBe(merge.stdout);
    expect([overview.code, version.code, merge.code]).toEqual([0, 0, 0]);
  });
});

describe("inspect", () => {
  it("shows rank, alpha, scale and targets of an adapter", async () => {
    const { stdout } = await cli("inspect", join(DEMO, "adapters/sentiment"), "--json", "--tensors");
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({
      kind: "adapter",
      dtype: "F32",
      adapter: { peftType: "LORA", useRslora: true, modules: 42 },
    });
    expect(document.adapter.settings).toEqual([{ rank: 16, alpha: 16, scale: 4, modules: 42 }]);
    expect(document.tensors).toHaveLength(84);
    expect(document.tensors[0].digest).toMatch(/^sha256:/);
  });

  it.each([
    ["llama-dora", /method +LORA with magnitudes \(DoRA\)/],
    ["ia3", /method +IA3/],
    ["llama-save-embed-head", /saved whole +embed_tokens, lm_head/],
    ["mixtral-experts", /parameters +mlp\.experts/],
    ["old-bin", /weights in +adapter_model\.bin/],
    ["refused-prompt-tuning", /method +PROMPT_TUNING/],
  ])("says what %s is", async (name, says) => {
    const folder = join(DEMO, "../merge", name, "adapter");
    const { code, stdout } = await cli("inspect", folder, "--no-digest");
    expect(code).toBe(0);
    expect(stdout).toMatch(says);
  });

  it("reads headers only under --no-digest", async () => {
    const { stdout } = await cli("inspect", join(DEMO, "base"), "--json", "--no-digest", "--tensors");
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({
      kind: "checkpoint",
      architecture: "LlamaForCausalLM",
      dtype: "BF16",
      tensorCount: 56,
      digests: null,
    });
    expect(document.tensors[0]).toMatchObject({ digest: null, stats: null });
  });
});

describe("Ctrl-C", () => {
  it("stops a merge with exit code 1 and leaves nothing", async () => {
    const folder = await mkdtemp(join(tmpdir(), "graftwork-stop-"));
    const base = join(folder, "base");
    await cp(join(import.meta.dirname, "../fixtures/models/llama-bf16"), base, { recursive: true });
    // A gigabyte more takes long enough to be interrupted.
    await addHole(join(base, "model.safetensors"), 1_000_000_000);
    const before = (await readdir(folder)).sort();
    const adapter = join(import.meta.dirname, "../fixtures/merge/llama-qv-r8/adapter");
    const out = join(folder, "out");
    const { child, finished } = startCli("merge", "--base", base, "--adapter", adapter, "--out", out);
    child.stderr!.on("data", (text: string) => {
      if (text.includes("merge: ")) child.kill("SIGINT");
    });
    const { code, stderr } = await finished;
    expect(stderr).toContain("graftwork: INTERRUPTED: ");
    expect(code).toBe(1);
    expect((await readdir(folder)).sort()).toEqual(before);
    await rm(folder, { recursive: true });
  });
});

describe("progress", () => {
  const events = [
    { type: "stage", stage: "merge", message: "merging 3 tensors" },
    { type: "progress", stage: "merge", done: 500, total: 2000 },
    { type: "progress", stage: "merge", done: 1000, total: 2000 },
    { type: "progress", stage: "merge", done: 2000, total: 2000 },
  ] as const;
  const draw = (isTTY: boolean, step: number) => {
    let text = "";
    let now = 0;
    const out = { isTTY, columns: 120, write: (more: string) => (text += more) };
    const progress = new Progress(out, () => (now += step));
    for (const event of events) progress.show(event);
    progress.clear();
    return text;
  };

  it("is one line that is redrawn on a terminal, and gone at the end", () => {
    const text = draw(true, 1000);
    expect(text).not.toContain("\n");
    expect(text).toContain("50 %  1.00 kB of 2.00 kB");
    expect(text).toContain("████████████░░░░░░░░░░░░");
    expect(text.endsWith("\r\x1b[2K")).toBe(true);
  });

  it("is plain lines elsewhere, at most one in two seconds", () => {
    expect(draw(false, 1000).split("\n")).toEqual([
      "merge: merging 3 tensors",
      expect.stringContaining("50 %"),
      "",
    ]);
    expect(draw(false, 3000)).not.toContain("\x1b");
    expect(draw(false, 3000).split("\n")).toHaveLength(5);
  });
});
