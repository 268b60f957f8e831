import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DEVICES } from "../../src/core/devices.ts";
import { cli, DEMO } from "../support/cli.ts";

const INPUTS = ["--base", join(DEMO, "base"), "--adapter", join(DEMO, "adapters/sentiment")];
const absent = process.platform === "win32" ? "coreml" : "dml";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-cli-devices-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("graftwork devices", () => {
  it("lists every device with what it is, or with what is missing", async () => {
    const { code, stdout } = await cli("devices", "--json");
    expect(code).toBe(0);
    const { devices } = JSON.parse(stdout);
    expect(devices.map(({ device }: { device: string }) => device)).toEqual([...DEVICES]);
    for (const { available, version, reason } of devices) {
      expect(available ? [typeof version, reason] : [version, typeof reason]).toEqual(
        available ? ["string", null] : [null, "string"],
      );
    }
    const { stdout: text } = await cli("devices");
    expect(text).toMatch(/^cpu +WebAssembly SIMD/m);
    expect(text).toMatch(new RegExp(`^${absent} is not available: .* is a part of`, "m"));
  });
});

describe("graftwork merge --device", () => {
  it("merges there, says how near the result is, and verify proves it", async () => {
    const out = join(folder, "near");
    const { code, stdout } = await cli("merge", ...INPUTS, "--out", out, "--device", "onnx-cpu", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout).device).toMatchObject({ device: "onnx-cpu", onCpu: 0, tensors: 42 });
    const proof = await cli("verify", out);
    expect(proof.code).toBe(0);
    expect(proof.stdout).toMatch(/computed on a device: \d+ of 2359296 elements differ/);
  });

  it("ends with an error that says what is missing, and never merges elsewhere instead", async () => {
    const out = join(folder, "none");
    const { code, stderr } = await cli("merge", ...INPUTS, "--out", out, "--device", absent);
    expect(code).toBe(1);
    expect(stderr).toMatch(/DEVICE_UNAVAILABLE: the device \w+ is not available here/);
    const wrong = await cli("merge", ...INPUTS, "--out", out, "--device", "abacus");
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain("--device must be one of cpu, webgpu, cuda");
  });
});
