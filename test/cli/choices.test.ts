import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readLayers } from "../../src/core/selection-text.ts";
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

  it("is refused when the change rounds away, also where the base is cast", async () => {
    const adapter = join(DEMO, "../merge/refused-no-effect/adapter");
    const base = join(DEMO, "../models/llama-bf16");
    for (const dtype of [[], ["--dtype", "bf16"], ["--dtype", "fp16"]]) {
      const out = join(temporary, `idle-${dtype[1] ?? "own"}`);
      const { code, stderr } = await cli(
        "merge",
        "--base",
        base,
        "--adapter",
        adapter,
        "--out",
        out,
        ...dtype,
      );
      expect([code, stderr.includes("NO_EFFECT")]).toEqual([1, true]);
    }
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

describe("the choices on the command line", () => {
  const plan = async (...options: string[]) => {
    const found = await cli("plan", "--base", BASE, "--adapter", ADAPTER, "--json", ...options);
    return { ...found, document: JSON.parse(found.stdout) };
  };
  const codes = (findings: readonly { code: string }[]) => findings.map(({ code }) => code);

  it.each([
    ["--include", ",", "names no module"],
    ["--exclude", " , ", "names no module"],
    ["--include-layers", "3-1", "must be layer numbers"],
    ["--dtype", "int8", "must be one of bf16"],
    ["--numerics", "fast", "must be one of peft, exact"],
    ["--ties", "both", "must be one of preserve, peft"],
    ["--tokenizer", "mine", 'must be "base" or "adapter"'],
  ])("%s %j is wrong usage", async (option, value, message) => {
    const { code, document } = await plan(option, value);
    expect(code).toBe(2);
    expect(document.error).toEqual({
      code: "USAGE",
      message: expect.stringContaining(`${option} ${message}`),
    });
  });

  it.each([
    [["--include", "q_proj,v_porj"], "include names what the adapter does not change (v_porj)"],
    [["--exclude", "lm_haed"], "exclude matches none of the 42 adapted tensors"],
    [["--exclude-pattern", "mlp"], "exclude matches none of the 42 adapted tensors"],
    [["--exclude", "q_proj,mlp"], "exclude names what the adapter does not change (mlp)"],
  ])("%j says what has no effect", async (options, message) => {
    const { code, document } = await plan(...options);
    expect(code).toBe(0);
    const found = document.warnings.filter((w: { code: string }) => w.code === "SELECTION_UNUSED");
    expect(found.map((w: { message: string }) => w.message)).toEqual([expect.stringContaining(message)]);
  });

  it("that are met in full warn of the partial merge alone", async () => {
    const { document } = await plan("--include", "q_proj,self_attn.v_proj,model.layers.0.mlp.up_proj");
    expect(codes(document.warnings)).toContain("PARTIAL_MERGE");
    expect(codes(document.warnings)).not.toContain("SELECTION_UNUSED");
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
