import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bf16ToNumber, type Dtype } from "../../src/core/dtype.ts";
import { roundToBits } from "../../src/core/numerics.ts";
import { cli } from "../support/cli.ts";
import { safetensorsFile } from "../support/safetensors.ts";
import { readTensors } from "../support/tensor-files.ts";

const DEMO = join(import.meta.dirname, "../fixtures/demo");
const BASE = join(DEMO, "base");
const ADAPTER = join(DEMO, "adapters/sentiment");
const Q0 = "model.layers.0.self_attn.q_proj.weight";

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-unmerge-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

const unmerge = async (merged: string, adapter = ADAPTER, ...more: string[]) => {
  const { code, stdout, stderr } = await cli(
    "unmerge",
    merged,
    "--base",
    BASE,
    "--adapter",
    adapter,
    "--json",
    ...more,
  );
  return { code, stderr, result: JSON.parse(stdout) };
};

type Change = (merged: number, base: number) => number;

/** PEFT's own merge with the values of one tensor changed. */
async function edited(name: string, change: Change) {
  const out = join(temporary, name);
  await cp(join(DEMO, "expected/sentiment"), out, { recursive: true });
  const path = join(out, "model.safetensors");
  const [merged, base] = await Promise.all(
    [path, join(BASE, "model.safetensors")].map((file) => readTensors(file)),
  );
  const bits = (bytes: Uint8Array) => new Uint16Array(Uint8Array.from(bytes).buffer);
  const before = bits(base!.get(Q0)!.bytes);
  const words = bits(merged!.get(Q0)!.bytes).map((word, i) =>
    roundToBits("BF16", Math.fround(change(bf16ToNumber(word), bf16ToNumber(before[i]!)))),
  );
  const tensors = [...merged!].map(([tensor, { dtype, shape, bytes }]) => ({
    name: tensor,
    dtype: dtype as Dtype,
    shape,
    bytes: tensor === Q0 ? new Uint8Array(words.buffer) : bytes,
  }));
  await writeFile(path, safetensorsFile(tensors));
  return out;
}

describe("taking an adapter out of a merged folder", () => {
  it("explains what PEFT merged, bit for bit, and gives the base back by reference", async () => {
    const { code, result } = await unmerge(join(DEMO, "expected/sentiment"));
    expect(code).toBe(0);
    expect(result).toMatchObject({ verdict: "EXPLAINED", residues: [], withinRounding: 0 });
    expect(result.base.folder).toBe(BASE);
    expect(result.base.version).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it("takes the choices from the folder's record, unless options make them", async () => {
    const out = join(temporary, "exact");
    const made = await cli("merge", "--base", BASE, "--adapter", ADAPTER, "--out", out, "--dtype", "fp32");
    expect(made.code).toBe(0);
    expect(await unmerge(out)).toMatchObject({ code: 0, result: { identical: 56 } });
    const { code, result } = await unmerge(out, ADAPTER, "--dtype", "fp16");
    expect(code).toBe(1);
    expect(result.residues[0].meaning).toMatch(/it is F32 .*and F16 .*was expected/);
  });

  it("refuses a base or an adapter other than the pinned one", async () => {
    for (const option of ["--base-digest", "--adapter-digest"]) {
      const pin = `sha256:${"0".repeat(64)}`;
      const { code, result } = await unmerge(join(DEMO, "expected/sentiment"), ADAPTER, option, pin);
      expect([code, result.error.code], option).toEqual([1, "DIGEST_MISMATCH"]);
    }
  });

  it.each([
    [
      "an adapter in the place of the merged folder",
      [ADAPTER, "--base", BASE, "--adapter", ADAPTER],
      "NOT_A_CHECKPOINT",
    ],
    ["base and adapter swapped", [BASE, "--base", ADAPTER, "--adapter", BASE], "NOT_AN_ADAPTER"],
    [
      "an adapter in the place of the base",
      [BASE, "--base", ADAPTER, "--adapter", ADAPTER],
      "NOT_A_CHECKPOINT",
    ],
    ["a folder that is not there", [join(DEMO, "none"), "--base", BASE, "--adapter", ADAPTER], "NOT_FOUND"],
    [
      "a folder of several adapters",
      [join(DEMO, "adapters"), "--base", BASE, "--adapter", ADAPTER],
      "SEVERAL_ADAPTERS",
    ],
  ])("refuses %s", async (_, args, code) => {
    const found = await cli("unmerge", ...args, "--json");
    expect([found.code, JSON.parse(found.stdout).error.code]).toEqual([1, code]);
  });

  it("calls one unit in the last place rounding", async () => {
    const { code, result } = await unmerge(await edited("ulp", (merged) => merged * (1 + 2 ** -8)));
    expect([code, result.verdict, result.withinRounding]).toEqual([0, "EXPLAINED", 1]);
  });

  it.each<[string, Change, RegExp]>([
    ["nothing was merged there", (_, base) => base, /change is not in it/],
    ["it was merged twice", (merged, base) => 2 * merged - base, /in it twice/],
    ["it was subtracted", (merged, base) => 2 * base - merged, /taken away/],
    ["another scale was used", (merged, base) => base + 0.5 * (merged - base), /0\.5\d* times/],
    [
      "something else came on top",
      (merged, base) => merged + 0.05 * Math.sin(1e4 * base),
      /something else besides/,
    ],
  ])("says where %s", async (name, change, meaning) => {
    const { code, result, stderr } = await unmerge(await edited(name.replaceAll(" ", "-"), change));
    expect(code).toBe(1);
    expect(result.residues.map((r: { tensor: string }) => r.tensor)).toEqual([Q0]);
    expect(result.residues[0].meaning).toMatch(meaning);
    expect(stderr).toContain("NOT_EXPLAINED");
    expect(stderr).toContain(Q0);
  });

  it("with another adapter than the one that was merged does not explain it", async () => {
    const { code, result } = await unmerge(
      join(DEMO, "expected/sentiment"),
      join(DEMO, "adapters/polite-rewriter"),
    );
    expect(code).toBe(1);
    expect(result.residues.length).toBeGreaterThan(10);
  });
});

describe("verifying a sample", () => {
  let out: string;
  beforeAll(async () => {
    out = join(temporary, "merged");
    expect((await cli("merge", "--base", BASE, "--adapter", ADAPTER, "--out", out)).code).toBe(0);
  });

  it("derives so many changed tensors and names them", async () => {
    const { code, stdout } = await cli("verify", out, "--sample", "3", "--json");
    const result = JSON.parse(stdout);
    expect(code).toBe(0);
    expect(result).toMatchObject({ verdict: "IDENTICAL", tensors: 3, digest: null });
    expect(result.sampled.every((name: string) => name.includes("proj"))).toBe(true);
  });

  it("finds damage in every tensor that it reads", async () => {
    const damaged = join(temporary, "damaged");
    await cp(out, damaged, { recursive: true });
    const path = join(damaged, "model.safetensors");
    const bytes = await readFile(path);
    for (let i = 100_000; i < bytes.byteLength; i += 64) bytes[i]! ^= 1;
    await writeFile(path, bytes);
    const { code, stdout } = await cli("verify", damaged, "--sample", "2", "--json");
    expect(code).toBe(1);
    const result = JSON.parse(stdout);
    expect(result.verdict).toBe("DIFFERENT");
    expect(result.differences.length).toBe(2);
  });
});

describe("a plan with a forecast", () => {
  it("says what rounding will cost each change, and warns where it is much", async () => {
    const light = join(DEMO, "adapters/light-touch");
    const { code, stdout } = await cli("plan", "--base", BASE, "--adapter", light, "--forecast", "--json");
    expect(code).toBe(0);
    const { touched } = JSON.parse(stdout);
    for (const { forecast } of touched) {
      expect(forecast.relativeError).toBeGreaterThan(0.05);
      expect(forecast.unchangedShare).toBeGreaterThan(0.01);
    }
    const wide = await cli(
      "plan",
      "--base",
      BASE,
      "--adapter",
      light,
      "--forecast",
      "--dtype",
      "fp32",
      "--json",
    );
    expect(JSON.parse(wide.stdout).touched[0].forecast.relativeError).toBeLessThan(1e-4);
    const lines = await cli("plan", "--base", BASE, "--adapter", light, "--forecast");
    expect(lines.stdout).toMatch(/rounding +unmoved/);
  });
});
