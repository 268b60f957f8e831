import { createHash } from "node:crypto";
import { cp, mkdtemp, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, DEMO } from "../support/cli.ts";
import { readTensors } from "../support/tensor-files.ts";

const BASE = join(DEMO, "base");
const adapters = await readdir(join(DEMO, "adapters"));
const adapter = (name: string) => join(DEMO, "adapters", name);

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-cli-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

const merge = (name: string, out: string, ...more: string[]) =>
  cli("merge", "--base", BASE, "--adapter", adapter(name), "--out", out, ...more);

describe.each(adapters)("the demo adapter %s", (name) => {
  let out: string;
  beforeAll(async () => {
    out = join(temporary, name);
    const { code, stderr } = await merge(name, out);
    expect(stderr).not.toContain("graftwork:");
    expect(code).toBe(0);
  });

  it("merges to PEFT's tensors, byte for byte", async () => {
    const expected = JSON.parse(await readFile(join(DEMO, "expected", name, "expected.json"), "utf8"));
    const actual = await readTensors(join(out, "model.safetensors"));
    const digests = [...actual].map(([tensor, { dtype, shape, bytes }]) => [
      tensor,
      { dtype, shape, digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}` },
    ]);
    expect(Object.fromEntries(digests)).toEqual(expected);
  });

  it("brings config, generation config and tokenizer along, and no adapter file", async () => {
    expect((await readdir(out)).sort()).toEqual([
      "config.json",
      "generation_config.json",
      "graftwork.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    for (const file of ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]) {
      expect(await readFile(join(out, file)), file).toEqual(await readFile(join(BASE, file)));
    }
  });

  it("verifies as IDENTICAL and loads again with the recorded digest", async () => {
    const verified = await cli("verify", out);
    expect(verified.code).toBe(0);
    expect(verified.stdout).toContain("IDENTICAL");
    const record = JSON.parse(await readFile(join(out, "graftwork.json"), "utf8"));
    const inspected = await cli("inspect", out, "--json");
    expect(inspected.code).toBe(0);
    expect(JSON.parse(inspected.stdout)).toMatchObject({
      kind: "checkpoint",
      adapter: null,
      digests: { version: record.output.version, weights: record.output.weights },
      merge: { recipeDigest: record.recipeDigest },
    });
  });
});

describe("verify", () => {
  it("names the tensor in which one byte was flipped, and ends with VERIFY_DIFFERENT", async () => {
    const out = join(temporary, "flipped");
    await merge("sentiment", out);
    const tensors = await readTensors(join(out, "model.safetensors"));
    const [name, { bytes, offset }] = [...tensors].find(([tensor]) =>
      tensor.includes("layers.3.mlp.down_proj"),
    )!;
    const file = await open(join(out, "model.safetensors"), "r+");
    await file.write(Buffer.from([bytes[5]! ^ 1]), 0, 1, offset! + 5);
    await file.close();

    const { code, stdout, stderr } = await cli("verify", out, "--json");
    expect(code).toBe(1);
    expect(stderr).toContain("VERIFY_DIFFERENT");
    expect(stderr).toContain(name);
    expect(JSON.parse(stdout)).toMatchObject({
      verdict: "DIFFERENT",
      differences: [{ name, what: "stored" }],
      error: { code: "VERIFY_DIFFERENT" },
    });
  });

  it("finds a changed config file", async () => {
    const out = join(temporary, "config");
    await merge("customer-support", out);
    const file = await open(join(out, "config.json"), "a");
    await file.write("\n");
    await file.close();
    const { code, stdout } = await cli("verify", out);
    expect(code).toBe(1);
    expect(stdout).toMatch(/DIFFERENT .*config\.json/);
  });

  it("asks for --base and --adapter where the inputs have moved, and works with them", async () => {
    const base = join(temporary, "moving-base");
    const out = join(temporary, "moved");
    await cp(BASE, base, { recursive: true });
    const merged = await cli("merge", "--base", base, "--adapter", adapter("light-touch"), "--out", out);
    expect(merged.code).toBe(0);
    await rename(base, `${base}-elsewhere`);

    const lost = await cli("verify", out);
    expect(lost.code).toBe(1);
    expect(lost.stderr).toMatch(/INPUT_NOT_FOUND: .*--base DIR/);
    expect((await cli("verify", out, "--base", `${base}-elsewhere`)).code).toBe(0);
    const other = await cli("verify", out, "--base", `${base}-elsewhere`, "--adapter", adapter("sentiment"));
    expect(other.code).toBe(1);
    expect(other.stdout).toContain("adapter 1: is another version than recorded");
  });

  it("says that a folder was not merged by Graftwork", async () => {
    const { code, stderr } = await cli("verify", BASE);
    expect(code).toBe(1);
    expect(stderr).toContain("NOT_A_MERGE");
  });
});

describe("merge", () => {
  it("prints exactly one JSON document with timing, memory, digests and the report", async () => {
    const out = join(temporary, "json");
    const { code, stdout, stderr } = await merge("sentiment", out, "--json", "--threads", "1");
    expect(code).toBe(0);
    expect(stderr).toBe("");
    const document = JSON.parse(stdout);
    const seconds = expect.any(Number);
    expect(document).toMatchObject({
      output: out,
      timing: { plan_s: seconds, execute_s: seconds, digest_s: seconds, check_s: seconds, sync_s: seconds },
      report: { verdict: "PASSED" },
      threads: 1,
      touched: 42,
    });
    expect(document.timing.total_s).toBeGreaterThan(document.timing.execute_s);
    expect(document.timing.start_s).toBeGreaterThan(0);
    expect(document.peak_rss_bytes).toBeGreaterThan(30_000_000);
    const hash = createHash("sha256")
      .update(await readFile(join(out, "config.json")))
      .digest("hex");
    const inspected = JSON.parse((await cli("inspect", out, "--json")).stdout);
    expect(inspected.digests).toEqual(document.digests);
    expect(inspected.files).toContainEqual(
      expect.objectContaining({ path: "config.json", digest: `sha256:${hash}` }),
    );
  });

  it("gives the same bytes and digests with any number of threads", async () => {
    const digests = await Promise.all(
      ["1", "3"].map(async (threads) => {
        const { stdout } = await merge(
          "sentiment",
          join(temporary, `t${threads}`),
          "--json",
          "--threads",
          threads,
        );
        return JSON.parse(stdout).digests;
      }),
    );
    expect(digests[0]).toEqual(digests[1]);
  });

  it("refuses an output that exists, and leaves it as it is", async () => {
    const out = join(temporary, "sentiment");
    const before = await readFile(join(out, "model.safetensors"));
    const { code, stderr } = await merge("customer-support", out);
    expect(code).toBe(1);
    expect(stderr).toContain("OUTPUT_EXISTS");
    expect((await readFile(join(out, "model.safetensors"))).equals(before)).toBe(true);
  });

  it("refuses inputs other than the pinned ones", async () => {
    const pin = `sha256:${"0".repeat(64)}`;
    for (const option of ["--base-digest", "--adapter-digest"]) {
      const out = join(temporary, "pinned");
      const { code, stderr } = await merge("sentiment", out, option, pin);
      expect(code, option).toBe(1);
      expect(stderr).toMatch(/graftwork: DIGEST_MISMATCH: .*pinned/);
    }
    expect((await readdir(temporary)).filter((entry) => entry.includes("pinned"))).toEqual([]);
  });

  it("refuses a base of another name under --strict-base, else warns", async () => {
    const out = join(temporary, "strict");
    const { code, stderr } = await merge("sentiment", out, "--strict-base");
    expect(code).toBe(1);
    expect(stderr).toContain("BASE_NAME_DIFFERS");
    const plan = await cli("plan", "--base", BASE, "--adapter", adapter("sentiment"));
    expect(plan.code).toBe(0);
    expect(plan.stdout).toContain("warning BASE_NAME_DIFFERS");
  });
});
