import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli } from "../support/cli.ts";
import { addHole, type RawTensor, readTensors, writeRaw, writeTensors } from "../support/tensor-files.ts";
import { bytes, torchZip } from "../support/torch-file.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");
const MODELS = join(FIXTURES, "models");
const ADAPTER = join(FIXTURES, "merge/llama-qv-r8/adapter");
const Q = "base_model.model.model.layers.0.self_attn.q_proj";

interface Folders {
  base: string;
  adapter: string;
}

interface Bad {
  what: string;
  code: string;
  /** What the one line on stderr must name. */
  says: RegExp;
  model?: string;
  damage: (folders: Folders) => Promise<unknown>;
}

const weights = (base: string) => join(base, "model.safetensors");
const factors = (adapter: string) => join(adapter, "adapter_model.safetensors");

async function editConfig(folder: string, file: string, change: Record<string, unknown>): Promise<void> {
  const path = join(folder, file);
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...change }));
}

const editAdapterConfig = (change: Record<string, unknown>) => (folders: Folders) =>
  editConfig(folders.adapter, "adapter_config.json", change);

const editFactors = (edit: (tensors: Map<string, RawTensor>) => void) => async (folders: Folders) => {
  const tensors = await readTensors(factors(folders.adapter));
  edit(tensors);
  await writeTensors(factors(folders.adapter), tensors);
};

/** A weight file of two 4-byte tensors whose offsets are as given, over 8 bytes of data or as many as stated. */
const twoTensors = (first: [number, number], second: [number, number], name = "b", bytes = 8) => {
  const entry = (offsets: [number, number]) => `{"dtype":"F32","shape":[1],"data_offsets":[${offsets}]}`;
  return (folders: Folders) =>
    writeRaw(weights(folders.base), `{"a":${entry(first)},"${name}":${entry(second)}}`, Buffer.alloc(bytes));
};

const damagedFiles: Bad[] = [
  {
    what: "a base that was cut short",
    code: "BAD_FILE",
    says: /model\.safetensors .*ends at byte .*cut short/,
    damage: ({ base }) => truncate(weights(base), 100_000),
  },
  {
    what: "an adapter that was cut short",
    code: "BAD_FILE",
    says: /adapter_model\.safetensors .*ends at byte .*cut short/,
    damage: ({ adapter }) => truncate(factors(adapter), 10_000),
  },
  {
    what: "a header that is longer than the file",
    code: "BAD_FILE",
    says: /header should end at byte/,
    damage: ({ base }) => writeRaw(weights(base), "{}", Buffer.alloc(8), 90_000n),
  },
  {
    what: "a header over the limit",
    code: "BAD_FILE",
    says: /claims 18446744073709551615 bytes, the limit is 100000000/,
    damage: ({ base }) => writeRaw(weights(base), "{}", Buffer.alloc(8), 2n ** 64n - 1n),
  },
  {
    what: "overlapping tensors",
    code: "BAD_FILE",
    says: /"b" overlaps tensor "a"/,
    damage: twoTensors([0, 4], [2, 6]),
  },
  {
    what: "a tensor beyond the end of the file",
    code: "BAD_FILE",
    says: /"b" ends at byte .*, beyond the file/,
    damage: twoTensors([0, 4], [8, 12]),
  },
  {
    what: "a gap between tensors",
    code: "BAD_FILE",
    says: /gap of 4 bytes before tensor "a"/,
    damage: twoTensors([4, 8], [8, 12], "b", 12),
  },
  {
    what: "a name that stands twice",
    code: "BAD_FILE",
    says: /"a" twice/,
    damage: twoTensors([0, 4], [4, 8], "a"),
  },
  {
    what: "an index that names a missing shard",
    code: "MISSING_SHARD",
    says: /model-00002-of-00004\.safetensors/,
    model: "llama-bf16-sharded",
    damage: ({ base }) => rm(join(base, "model-00002-of-00004.safetensors")),
  },
  {
    what: "an index that leaves the folder",
    code: "BAD_INDEX",
    says: /must be a \.safetensors file in the same folder/,
    model: "llama-bf16-sharded",
    damage: ({ base }) =>
      editConfig(base, "model.safetensors.index.json", {
        weight_map: { "lm_head.weight": "../model.safetensors" },
      }),
  },
  {
    what: "a config that is not JSON",
    code: "BAD_JSON",
    says: /base\/config\.json is not valid JSON/,
    damage: ({ base }) => writeFile(join(base, "config.json"), "{"),
  },
  {
    what: "a folder that is not there",
    code: "NOT_FOUND",
    says: /base does not exist/,
    damage: ({ base }) => rm(base, { recursive: true }),
  },
  {
    what: "a base given as the adapter",
    code: "NOT_AN_ADAPTER",
    says: /swap/,
    damage: async ({ adapter }) => {
      await rm(adapter, { recursive: true });
      await cp(join(MODELS, "llama-bf16"), adapter, { recursive: true });
    },
  },
];

const misfits: Bad[] = [
  {
    what: "NaN in the adapter",
    code: "NOT_FINITE",
    says: /q_proj\.lora_A\.weight.* 1 NaN or infinite/,
    damage: editFactors((tensors) => tensors.get(`${Q}.lora_A.weight`)!.bytes.writeFloatLE(Number.NaN, 40)),
  },
  {
    what: "an unknown config field",
    code: "UNKNOWN_CONFIG_FIELD",
    says: /use_newer_math/,
    damage: editAdapterConfig({ use_newer_math: 3 }),
  },
  {
    what: "a rank that disagrees",
    code: "RANK_MISMATCH",
    says: /says 4/,
    damage: editAdapterConfig({ r: 4 }),
  },
  {
    what: "a missing lora_B",
    code: "MISSING_TENSOR",
    says: /layers\.0\.self_attn\.q_proj has lora_A\.weight but no lora_B\.weight/,
    damage: editFactors((tensors) => tensors.delete(`${Q}.lora_B.weight`)),
  },
  {
    what: "a tensor that nothing uses",
    code: "ORPHAN_TENSOR",
    says: /extra\.thing/,
    damage: editFactors((tensors) => {
      tensors.set("extra.thing", { dtype: "F32", shape: [1], bytes: Buffer.alloc(4) });
    }),
  },
  {
    what: "factors of another shape",
    code: "SHAPE_MISMATCH",
    says: /layers\.0\.self_attn\.q_proj.*another base/,
    damage: editFactors((tensors) => {
      const a = tensors.get(`${Q}.lora_A.weight`)!;
      a.shape = [a.shape[0]!, a.shape[1]! / 2];
      a.bytes = a.bytes.subarray(0, a.bytes.byteLength / 2);
    }),
  },
  {
    what: "an adapter of another architecture",
    code: "NO_TARGET",
    says: /none of the 4 adapted modules exists/,
    model: "gpt_neox-bf16",
    damage: async () => {},
  },
  {
    what: "an adapter that learnt nothing",
    code: "NO_EFFECT",
    says: /4 have a zero lora_B/,
    damage: editFactors((tensors) => {
      for (const [name, tensor] of tensors) if (name.includes("lora_B")) tensor.bytes.fill(0);
    }),
  },
  {
    what: "an unknown method",
    code: "UNKNOWN_PEFT_TYPE",
    says: /"LORRA"/,
    damage: editAdapterConfig({ peft_type: "LORRA" }),
  },
  {
    what: "a change that leaves the range of float16, found after the tensors were written",
    code: "NOT_FINITE",
    says: /after the merge/,
    model: "llama-fp16",
    damage: editAdapterConfig({ lora_alpha: 1e8 }),
  },
  {
    what: "a quantised base",
    code: "QUANTISED_BASE",
    says: /full-precision/,
    damage: ({ base }) => editConfig(base, "config.json", { quantization_config: { quant_method: "gptq" } }),
  },
  {
    what: "a pickle that would run code",
    code: "UNSAFE_PICKLE",
    says: /names os\.system.*nothing was run/,
    damage: async ({ adapter }) => {
      await rm(factors(adapter));
      const pickle = bytes("\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.");
      await writeFile(join(adapter, "adapter_model.bin"), torchZip([], pickle));
    },
  },
  {
    what: "a LoRA of an image model's trainer",
    code: "FOREIGN_FORMAT",
    says: /kohya-ss/,
    damage: editFactors((tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name);
        tensors.set(`lora_unet_${name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")}`, tensor);
      }
    }),
  },
  {
    what: "an output larger than the disk",
    code: "NOT_ENOUGH_DISK",
    says: /only \d+ are free/,
    damage: ({ base }) => addHole(weights(base), 8e12),
  },
];

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-bad-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

describe("merge refuses, with its code, one line and nothing left behind:", () => {
  it.each([...damagedFiles, ...misfits])("$what ($code)", async ({ what, code, says, model, damage }) => {
    const folder = join(temporary, what.replaceAll(/\W+/g, "-"));
    const base = join(folder, "base");
    const adapter = join(folder, "adapter");
    await mkdir(folder);
    await cp(join(MODELS, model ?? "llama-bf16"), base, { recursive: true });
    await cp(ADAPTER, adapter, { recursive: true });
    await damage({ base, adapter });
    const before = (await readdir(folder)).sort();

    const args = ["--base", base, "--adapter", adapter, "--out", join(folder, "out"), "--json"];
    const { code: exit, stdout, stderr } = await cli("merge", ...args);
    expect(stderr).toMatch(/^graftwork: [^\n]*\n$/);
    expect(stderr).toContain(`graftwork: ${code}: `);
    expect(stderr).toMatch(says);
    expect(exit).toBe(1);
    expect(JSON.parse(stdout).error).toMatchObject({ code, message: expect.stringMatching(says) });
    expect((await readdir(folder)).sort()).toEqual(before);
  });
});

describe("plan", () => {
  it("prints every reason at once and ends with exit code 1", async () => {
    const folder = join(temporary, "several");
    const adapter = join(folder, "adapter");
    await mkdir(folder);
    await cp(ADAPTER, adapter, { recursive: true });
    await editAdapterConfig({ r: 4, use_newer_math: 3 })({ base: "", adapter });
    const args = ["--base", join(MODELS, "llama-bf16"), "--adapter", adapter];
    const { code, stdout, stderr } = await cli("plan", ...args);
    expect(code).toBe(1);
    expect(stdout.match(/^refused RANK_MISMATCH: /gm)).toHaveLength(4);
    expect(stdout).toMatch(/^refused UNKNOWN_CONFIG_FIELD: /m);
    expect(stderr).toContain("graftwork: UNKNOWN_CONFIG_FIELD: ");

    const json = await cli("plan", ...args, "--json");
    const document = JSON.parse(json.stdout);
    expect(json.code).toBe(1);
    expect(document.runnable).toBe(false);
    expect(document.error.reasons).toEqual(document.refusals);
    expect(document.refusals).toHaveLength(5);
  });
});
