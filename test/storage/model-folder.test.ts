import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { allTensors, checkpointDigests } from "../../src/core/checkpoint.ts";
import { digestCheckpoint, finish } from "../../src/engine/digest.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";
import { safetensorsFile } from "../support/safetensors.ts";
import { statePickle, torchZip } from "../support/torch-file.ts";

const MERGE = join(import.meta.dirname, "../fixtures/merge");
const LORA = join(MERGE, "llama-qv-r8/adapter");

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-model-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), content);
}
const putAdapter = (path = ".") => cp(LORA, join(folder, path), { recursive: true });
const read = (path = ".", roots: string[] | null = null) => readModelFolder(join(folder, path), { roots });
const refused = (path?: string) =>
  read(path).then(
    () => null,
    ({ code, message }) => ({ code, message }),
  );
const keys = (...names: string[]) =>
  safetensorsFile(names.map((name) => ({ name, dtype: "F32" as const, shape: [2, 2] })));
const PEFT_KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

describe("an adapter in a sub-folder", () => {
  it("is taken where it is the only one, and what is said of it names the sub-folder", async () => {
    await putAdapter("polite");
    await put("README.md", "card");
    const found = await read();
    expect(found.folder).toBe(join(folder, "polite"));
    expect(found.facts.kind).toBe("adapter");
    expect(found.notices).toMatchObject([{ code: "ADAPTER_IN_SUBFOLDER", subject: "polite" }]);
  });

  it("has the digest that it has on its own", async () => {
    await putAdapter("polite");
    const digest = async (path: string) => {
      const { folder: at, facts } = await readModelFolder(path, { roots: null });
      return checkpointDigests(await finish(digestCheckpoint({ folder: at, facts }, { threads: 1 })));
    };
    expect(await digest(folder)).toEqual(await digest(LORA));
  });

  it("is taken from a trainer's checkpoint, even two levels down", async () => {
    await putAdapter("checkpoint-500/polite");
    expect((await read()).folder).toBe(join(folder, "checkpoint-500/polite"));
  });

  it("is not chosen where there are several: they are named", async () => {
    await putAdapter("checkpoint-500");
    await putAdapter("checkpoint-1000");
    expect(await refused()).toMatchObject({
      code: "SEVERAL_ADAPTERS",
      message: expect.stringMatching(/checkpoint-1000, checkpoint-500/),
    });
  });

  it("is not looked for where the folder holds an adapter or a model of its own", async () => {
    await putAdapter();
    await putAdapter("other");
    expect(await read()).toMatchObject({ folder, notices: [] });
  });

  it("below the roots is read, and outside of them is not", async () => {
    await putAdapter("polite");
    expect((await read(".", [folder])).folder).toBe(join(folder, "polite"));
    await expect(read(".", [join(folder, "polite")])).rejects.toMatchObject({ code: "PATH_OUTSIDE_ROOTS" });
  });
});

describe("an adapter's weights", () => {
  it("are read from adapter_model.bin where there is no safetensors file, with the role of weights", async () => {
    const { facts } = await readModelFolder(join(MERGE, "old-bin/adapter"), { roots: null });
    expect(facts.weights.map(({ path, tensors }) => [path, tensors.length])).toEqual([
      ["adapter_model.bin", 8],
    ]);
    expect(facts.files.map(({ path, role }) => [path, role])).toEqual([
      ["adapter_config.json", "CONFIG"],
      ["adapter_model.bin", "WEIGHTS"],
    ]);
  });

  it("have the digest of the same tensors in safetensors", async () => {
    const digested = async (path: string) => {
      const { facts } = await readModelFolder(path, { roots: null });
      return finish(digestCheckpoint({ folder: path, facts }, { threads: 2 }));
    };
    const bin = await digested(join(MERGE, "old-bin/adapter"));
    const file = await readFile(join(MERGE, "old-bin/adapter/adapter_model.bin"));
    const same = allTensors(bin).map(({ name, dtype, shape, begin, end }) => ({
      name,
      dtype,
      shape,
      bytes: new Uint8Array(file.subarray(begin, end)),
    }));
    await put("adapter_config.json", await readFile(join(MERGE, "old-bin/adapter/adapter_config.json")));
    await put("adapter_model.safetensors", safetensorsFile(same));
    const again = await digested(folder);
    expect(checkpointDigests(again)).toEqual(checkpointDigests(bin));
    expect(allTensors(bin)[0]!.stats!.rms).toBeGreaterThan(0);
    expect(allTensors(bin).map(({ stats }) => stats)).toEqual(allTensors(again).map(({ stats }) => stats));
  });

  it("are the safetensors file's where both are there, as in PEFT, and the pickle is not even opened", async () => {
    await putAdapter();
    await put("adapter_model.bin", "not a pickle");
    const { facts } = await read();
    expect(facts.weights.map(({ path }) => path)).toEqual(["adapter_model.safetensors"]);
    expect(facts.files.find(({ path }) => path === "adapter_model.bin")?.role).toBe("CARRIED");
  });

  it("are read from the shards of transformers, and refused where one is missing", async () => {
    await putAdapter();
    await rm(join(folder, "adapter_model.safetensors"));
    const shards = ["adapter_model-00001-of-00002.safetensors", "adapter_model-00002-of-00002.safetensors"];
    await put(shards[0]!, keys(PEFT_KEY));
    await put(shards[1]!, keys("b"));
    await put(
      "model.safetensors.index.json",
      JSON.stringify({ weight_map: { [PEFT_KEY]: shards[0], b: shards[1] } }),
    );
    const { facts } = await read();
    expect(facts.weights.map(({ path }) => path)).toEqual(shards);
    await rm(join(folder, shards[1]!));
    expect((await refused())?.code).toBe("MISSING_SHARD");
  });

  it.each([
    [
      "os.system in a pickle",
      "adapter_model.bin",
      torchZip([], Buffer.from("\x80\x02cos\nsystem\n.", "latin1")),
      "UNSAFE_PICKLE",
      /names os\.system/,
    ],
    ["a bare pickle", "adapter_model.bin", statePickle([]), "BAD_FILE", /does not start as torch\.save/],
    [
      "a Git LFS pointer",
      "adapter_model.safetensors",
      "version https://git-lfs.github.com/spec/v1\noid x\n",
      "BAD_FILE",
      /git lfs pull/,
    ],
    [
      "a pickle under a safetensors name",
      "adapter_model.safetensors",
      torchZip([]),
      "BAD_FILE",
      /zip archive/,
    ],
    [
      "GGUF under a safetensors name",
      "adapter_model.safetensors",
      "GGUF\x03\0\0\0",
      "FOREIGN_FORMAT",
      /llama\.cpp/,
    ],
    ["only GGUF", "adapter.gguf", "GGUF\x03\0\0\0", "FOREIGN_FORMAT", /convert_lora_to_gguf/],
    ["nothing", "README.md", "card", "NO_WEIGHTS", /no adapter_model\.safetensors and no adapter_model\.bin/],
    [
      "a merged model's",
      "model.safetensors",
      "",
      "NO_WEIGHTS",
      /remove adapter_config\.json where this is a merged/,
    ],
  ] as const)("that are %s are refused", async (_, path, content, code, says) => {
    await putAdapter();
    await rm(join(folder, "adapter_model.safetensors"));
    await put(path, content);
    expect(await refused()).toMatchObject({ code, message: expect.stringMatching(says) });
  });
});

describe("a file of another tool, without PEFT's config,", () => {
  it.each([
    [
      "kohya-ss",
      "lora.safetensors",
      keys("lora_unet_down_blocks_0.lora_down.weight", "lora_unet_down_blocks_0.alpha"),
    ],
    [
      "LyCORIS",
      "lycoris.safetensors",
      keys("lora_unet_mid_block.hada_w1_a", "lora_unet_mid_block.hada_w1_b"),
    ],
    ["diffusers", "pytorch_lora_weights.safetensors", keys("unet.mid_block.attn1.to_q.lora.down.weight")],
    [
      "diffusers",
      "flux.safetensors",
      keys("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"),
    ],
    ["torchtune", "adapter_0.pt", torchZip([{ name: "layers.0.attn.q_proj.lora_a.weight", shape: [2, 2] }])],
    ["MLX", "adapters.safetensors", keys("model.layers.0.self_attn.q_proj.lora_a")],
    ["MLX", "adapters.npz", "PK"],
    ["GGUF", "lora.gguf", "GGUF"],
  ] as const)("%s (%s) is refused by its name with the way out", async (name, path, content) => {
    await put(path, content);
    for (const error of [await refused(), await refused(path)]) {
      expect(error).toMatchObject({ code: "FOREIGN_FORMAT", message: expect.stringContaining(name) });
      expect(error!.message).toContain(path);
    }
  });

  it("is told by what its metadata says of its trainer where its keys say nothing", async () => {
    await put(
      "x.safetensors",
      safetensorsFile([{ name: "w", dtype: "F32", shape: [1] }], { ss_network_module: "networks.lora" }),
    );
    expect(await refused()).toMatchObject({ code: "FOREIGN_FORMAT" });
  });

  it("or of PEFT, whose config is missing, is told from a folder with nothing in it", async () => {
    expect((await refused())?.message).toMatch(/neither config\.json nor adapter_config\.json:/);
    await put("adapter_model.safetensors", keys(PEFT_KEY));
    expect((await refused())?.message).toMatch(/beside adapter_model\.safetensors: .*finish the download/);
    expect(await refused("adapter_model.safetensors")).toMatchObject({ code: "NOT_A_FOLDER" });
    expect(await refused("nowhere")).toMatchObject({ code: "NOT_FOUND" });
  });
});
