import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { widen } from "../../src/core/dtype.ts";
import { cli } from "../support/cli.ts";
import { readTensors } from "../support/tensor-files.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");
const BASE = join(FIXTURES, "demo/base");
const SENTIMENT = join(FIXTURES, "demo/adapters/sentiment");

let temporary: string;
let tuned: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-extract-"));
  tuned = join(temporary, "tuned");
  const adapter = join(FIXTURES, "demo/adapters/customer-support");
  const { code } = await cli(
    "merge",
    "--base",
    BASE,
    "--adapter",
    adapter,
    "--out",
    tuned,
    "--dtype",
    "fp32",
  );
  expect(code).toBe(0);
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

describe("extracting an adapter from a fine-tuned checkpoint", () => {
  it("finds again what a rank-8 adapter changed, and merging it gives the checkpoint back", async () => {
    const out = join(temporary, "found");
    const { code, stdout, stderr } = await cli(
      "extract",
      ...[
        "--base",
        BASE,
        "--tuned",
        tuned,
        "--rank",
        "8",
        "--target",
        "q_proj,v_proj",
        "--out",
        out,
        "--json",
      ],
    );
    expect([code, stderr.includes("graftwork:")]).toEqual([0, false]);
    const summary = JSON.parse(stdout);
    expect(summary.energyKept).toBeGreaterThan(0.999999);
    expect(summary.leftBehind).toEqual([]);
    expect((await readdir(out)).sort()).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "extract.json",
    ]);
    const certificate = JSON.parse(await readFile(join(out, "extract.json"), "utf8"));
    expect(certificate.modules.length).toBe(summary.modules.length);
    expect(certificate.base.version).toMatch(/^sha256:/);

    const again = join(temporary, "again");
    expect(
      (await cli("merge", "--base", BASE, "--adapter", out, "--out", again, "--dtype", "fp32")).code,
    ).toBe(0);
    const [before, after, base] = await Promise.all(
      [tuned, again, BASE].map((folder) => readTensors(join(folder, "model.safetensors"))),
    );
    for (const [name, { bytes }] of before!) {
      const [a, b] = [widen("F32", bytes), widen("F32", after!.get(name)!.bytes)];
      const largest = widen("BF16", base!.get(name)!.bytes).reduce(
        (most, v) => Math.max(most, Math.abs(v)),
        0,
      );
      const farthest = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
      expect(farthest, name).toBeLessThanOrEqual(largest * 1e-6);
    }
  });

  it("at a lower rank says how much less it keeps, module by module", async () => {
    const out = join(temporary, "small");
    const { stdout } = await cli(
      "extract",
      ...["--base", BASE, "--tuned", tuned, "--rank", "1", "--target", "q_proj", "--out", out, "--json"],
    );
    const { energyKept, modules, leftBehind } = JSON.parse(stdout);
    expect(energyKept).toBeGreaterThan(0.2);
    expect(energyKept).toBeLessThan(0.999);
    expect(modules.every((m: { module: string }) => m.module.endsWith("q_proj"))).toBe(true);
    // v_proj differs as well, and was not asked for.
    expect(leftBehind.map((t: { why: string }) => t.why)).toContain("not among the targets");
  });

  it("refuses two different models, naming the tensor, and writes nothing", async () => {
    const out = join(temporary, "none");
    const other = join(FIXTURES, "models/llama-bf16");
    const { code, stderr } = await cli(
      "extract",
      "--base",
      BASE,
      "--tuned",
      other,
      "--rank",
      "4",
      "--out",
      out,
    );
    expect(code).toBe(1);
    expect(stderr).toContain("NOT_THE_SAME_MODEL");
    expect(stderr).toMatch(/tensor "model\./);
    expect((await readdir(temporary)).includes("none")).toBe(false);
  });

  it.each<[string, string[], string, RegExp]>([
    [
      "an adapter as the base",
      ["--base", SENTIMENT, "--tuned", BASE],
      "NOT_A_CHECKPOINT",
      /sentiment is an adapter/,
    ],
    [
      "an adapter as the model",
      ["--base", BASE, "--tuned", SENTIMENT],
      "NOT_A_CHECKPOINT",
      /sentiment is an adapter/,
    ],
    ["a base that is not there", ["--base", "/nowhere", "--tuned", BASE], "NOT_FOUND", /\/nowhere/],
    [
      "a misspelt target beside a right one",
      ["--base", BASE, "--tuned", BASE, "--target", "q_proj,qproj"],
      "NO_TARGET",
      /"qproj"/,
    ],
    [
      "a rank that no change has",
      ["--base", BASE, "--tuned", BASE, "--rank", "193"],
      "BAD_INPUT",
      /above 192/,
    ],
    [
      "an output inside the base",
      ["--base", BASE, "--tuned", BASE, "--out", join(BASE, "in")],
      "OUTPUT_INSIDE_INPUT",
      /demo\/base/,
    ],
    [
      "an output that exists",
      ["--base", BASE, "--tuned", BASE, "--out", FIXTURES],
      "OUTPUT_EXISTS",
      /fixtures/,
    ],
  ])("refuses %s before it reads any weights", async (_, args, code, says) => {
    const more = args.includes("--rank") ? [] : ["--rank", "4"];
    if (!args.includes("--out")) more.push("--out", join(temporary, "refused"));
    const found = await cli("extract", ...args, ...more);
    expect(found.code).toBe(1);
    expect(found.stderr).toContain(`graftwork: ${code}: `);
    expect(found.stderr).toMatch(says);
    expect(found.stderr).not.toContain("digest:");
    expect(await readdir(temporary)).not.toContain("refused");
  });

  it("refuses two equal checkpoints: there is nothing to extract", async () => {
    const out = join(temporary, "equal");
    const { code, stderr } = await cli(
      "extract",
      "--base",
      BASE,
      "--tuned",
      BASE,
      "--rank",
      "4",
      "--out",
      out,
    );
    expect([code, stderr.includes("NO_EFFECT")]).toEqual([1, true]);
    expect((await readdir(temporary)).some((name) => name.includes("equal"))).toBe(false);
  });
});
