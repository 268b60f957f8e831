import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readLayers } from "../../src/cli/choices.ts";
import { cli } from "../support/cli.ts";
import { readTensors } from "../support/tensor-files.ts";

const DEMO = join(import.meta.dirname, "../fixtures/demo");
const BASE = join(DEMO, "base");
const ADAPTER = join(DEMO, "adapters/sentiment");

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-choices-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

async function merged(name: string, ...options: string[]) {
  const out = join(temporary, name);
  const { code, stdout, stderr } = await cli(
    "merge",
    "--base",
    BASE,
    "--adapter",
    ADAPTER,
    "--out",
    out,
    "--json",
    ...options,
  );
  expect(stderr).not.toContain("graftwork:");
  expect(code).toBe(0);
  return { out, document: JSON.parse(stdout), tensors: await readTensors(join(out, "model.safetensors")) };
}

describe("a merge with choices", () => {
  it("leaves excluded modules as they are in the base, and says so", async () => {
    const base = await readTensors(join(BASE, "model.safetensors"));
    const { tensors, document } = await merged(
      "partial",
      "--include",
      "q_proj,v_proj",
      "--include-layers",
      "0",
    );
    const changed = [...tensors].filter(([name, { bytes }]) => !bytes.equals(base.get(name)!.bytes));
    expect(changed.map(([name]) => name).sort()).toEqual([
      "model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.self_attn.v_proj.weight",
    ]);
    expect(document.recipe.include).toEqual({ modules: ["q_proj", "v_proj"], layers: [0] });
    expect(document.warnings).toContainEqual(expect.objectContaining({ code: "PARTIAL_MERGE" }));
  });

  it("writes every float tensor in the storage type asked for, and says so in config.json", async () => {
    const { out, tensors } = await merged("wide", "--dtype", "fp32");
    expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(["F32"]));
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    expect(config.dtype ?? config.torch_dtype).toBe("float32");
  });

  it("rounds once with exact arithmetic: closer to PEFT's than one step, and another recipe", async () => {
    const peft = await merged("peft");
    const exact = await merged("exact", "--numerics", "exact");
    expect(exact.document.recipe.numerics).toBe("exact-1");
    expect(exact.document.recipeDigest).not.toBe(peft.document.recipeDigest);
    let differing = 0;
    let elements = 0;
    for (const [name, { bytes }] of peft.tensors) {
      const other = exact.tensors.get(name)!.bytes;
      elements += bytes.byteLength / 2;
      for (let i = 0; i < bytes.byteLength; i += 2) {
        if (bytes[i] !== other[i] || bytes[i + 1] !== other[i + 1]) differing++;
      }
    }
    // Float32 sums of 16 terms fall on the other side of a bfloat16 midpoint in a few elements of a million.
    expect(differing / elements).toBeLessThan(1e-3);
  });

  it("is proved again from its record, choices and all", async () => {
    const { out } = await merged("again", "--exclude-pattern", ".*\\.mlp\\..*", "--dtype", "fp16");
    const { code, stdout } = await cli("verify", out);
    expect([code, stdout.includes("IDENTICAL")]).toEqual([0, true]);
  });

  it("is refused when nothing is left to merge, with how names are matched", async () => {
    const { code, stderr } = await cli(
      "merge",
      ...[
        "--base",
        BASE,
        "--adapter",
        ADAPTER,
        "--out",
        join(temporary, "none"),
        "--include",
        "nothing_here",
      ],
    );
    expect(code).toBe(1);
    expect(stderr).toContain("NOTHING_INCLUDED");
    expect(stderr).toContain("42 adapted modules");
  });
});

describe("layer numbers on the command line", () => {
  it.each([
    ["0", [0]],
    ["0-2,7", [0, 1, 2, 7]],
    ["3-1", null],
    ["x", null],
    ["", null],
  ])("%j means %j", (text, layers) => {
    expect(readLayers(text)).toEqual(layers);
  });
});
