import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { byteLength, type Dtype } from "../../src/core/dtype.ts";
import { buildSafetensorsHeader } from "../../src/core/safetensors.ts";

/** A Llama-shaped model in BF16. */
export interface LlamaShape {
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly vocabulary: number;
  readonly shards: number;
  /** Holes instead of weights: files that take no room on the disk, for measurements of memory. */
  readonly sparse?: boolean;
}

/** TinyLlama 1.1B: 2.2 GB. */
export const LLAMA_1B: LlamaShape = {
  layers: 22,
  hidden: 2048,
  intermediate: 5632,
  heads: 32,
  keyValueHeads: 4,
  vocabulary: 32_000,
  shards: 5,
};

/** Llama 3 8B, with holes for weights: 16 GB. */
export const LLAMA_8B_SPARSE: LlamaShape = {
  layers: 32,
  hidden: 4096,
  intermediate: 14_336,
  heads: 32,
  keyValueHeads: 8,
  vocabulary: 128_256,
  shards: 4,
  sparse: true,
};

export interface LoraShape {
  readonly rank: number;
  /** Last parts of the names of the adapted layers. */
  readonly modules: readonly string[];
}

export const ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** Linear layers of a block with [out, in]. */
function linears({ hidden, intermediate, heads, keyValueHeads }: LlamaShape) {
  const keyValue = (hidden / heads) * keyValueHeads;
  return [
    ["self_attn.q_proj", hidden, hidden],
    ["self_attn.k_proj", keyValue, hidden],
    ["self_attn.v_proj", keyValue, hidden],
    ["self_attn.o_proj", hidden, hidden],
    ["mlp.gate_proj", intermediate, hidden],
    ["mlp.up_proj", intermediate, hidden],
    ["mlp.down_proj", hidden, intermediate],
  ] as const;
}

function baseEntries(shape: LlamaShape): Entry[] {
  const { layers, hidden, vocabulary } = shape;
  const bf16 = (name: string, ...dims: number[]): Entry => ({
    name: `${name}.weight`,
    dtype: "BF16",
    shape: dims,
  });
  const blocks = Array.from({ length: layers }, (_, i) => [
    ...linears(shape).map(([name, out, width]) => bf16(`model.layers.${i}.${name}`, out, width)),
    bf16(`model.layers.${i}.input_layernorm`, hidden),
    bf16(`model.layers.${i}.post_attention_layernorm`, hidden),
  ]);
  return [
    bf16("model.embed_tokens", vocabulary, hidden),
    ...blocks.flat(),
    bf16("model.norm", hidden),
    bf16("lm_head", vocabulary, hidden),
  ];
}

function adapterEntries(shape: LlamaShape, { rank, modules }: LoraShape): Entry[] {
  const adapted = linears(shape).filter(([name]) => modules.includes(name.split(".")[1]!));
  return Array.from({ length: shape.layers }, (_, i) =>
    adapted.flatMap(([name, out, width]): Entry[] => {
      const module = `base_model.model.model.layers.${i}.${name}`;
      return [
        { name: `${module}.lora_A.weight`, dtype: "F32", shape: [rank, width] },
        { name: `${module}.lora_B.weight`, dtype: "F32", shape: [out, rank] },
      ];
    }),
  ).flat();
}

/** Writes an adapter for a model into a folder. */
export async function generateAdapter(folder: string, shape: LlamaShape, lora: LoraShape): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeShard(join(folder, "adapter_model.safetensors"), adapterEntries(shape, lora));
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: "generated/llama",
    r: lora.rank,
    lora_alpha: 2 * lora.rank,
    target_modules: lora.modules,
  };
  await writeFile(join(folder, "adapter_config.json"), JSON.stringify(config));
}

/** Writes a base model into a folder, with a tokenizer of the usual size; returns the bytes of its weights. */
export async function generateBase(folder: string, shape: LlamaShape): Promise<number> {
  await mkdir(folder, { recursive: true });
  const entries = baseEntries(shape);
  const total = entries.reduce((sum, e) => sum + byteLength(e.dtype, e.shape)!, 0);
  const weightMap: Record<string, string> = {};
  const five = (n: number) => String(n).padStart(5, "0");
  let bytes = 0;
  let next = 0;
  for (let i = 0; i < shape.shards; i++) {
    const name = `model-${five(i + 1)}-of-${five(shape.shards)}.safetensors`;
    const last = i === shape.shards - 1;
    const shard: Entry[] = [];
    for (let held = 0; next < entries.length && (last || held < total / shape.shards); next++) {
      const entry = entries[next]!;
      shard.push(entry);
      weightMap[entry.name] = name;
      held += byteLength(entry.dtype, entry.shape)!;
    }
    bytes += await writeShard(join(folder, name), shard, shape.sparse);
  }
  const index = { metadata: { total_size: total }, weight_map: weightMap };
  await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index, null, 2));
  await writeFile(join(folder, "config.json"), JSON.stringify(baseConfig(shape)));
  await writeFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizer(shape.vocabulary)));
  return bytes;
}

/** Writes `<folder>/base` and `<folder>/adapter` on all linear layers; returns the bytes of the base. */
export async function generateLlama(
  folder: string,
  size: Pick<LlamaShape, "layers" | "shards"> & Pick<LoraShape, "rank">,
): Promise<number> {
  const { rank, ...changed } = size;
  const shape = { ...LLAMA_1B, ...changed };
  await generateAdapter(join(folder, "adapter"), shape, { rank, modules: ALL_LINEAR });
  return generateBase(join(folder, "base"), shape);
}

/** Pairs that merge into tokens, as many as there are tokens: some megabytes, as real ones have. */
function tokenizer(size: number) {
  const word = (i: number) => `▁t${i.toString(36)}`;
  const numbers = Array.from({ length: size }, (_, i) => i);
  return {
    version: "1.0",
    model: {
      type: "BPE",
      vocab: Object.fromEntries(numbers.map((i) => [word(i), i])),
      merges: numbers.map((i) => [word(i), word(i + 1)]),
    },
  };
}

/** 16-bit patterns of small normal numbers, in bf16 and as the upper halves of float32 alike. */
const BLOCK = (() => {
  const words = new Uint16Array(1 << 22);
  let state = 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = 0x3b80 + ((state >>> 16) & 0x017f) + (state & 0x8000);
  }
  return new Uint8Array(words.buffer);
})();

async function writeShard(path: string, entries: readonly Entry[], sparse = false): Promise<number> {
  let at = 0;
  const placed = entries.map((entry) => {
    const begin = at;
    at += byteLength(entry.dtype, entry.shape)!;
    return { ...entry, begin, end: at };
  });
  const header = buildSafetensorsHeader({ format: "pt" }, placed);
  const file = await open(path, "w");
  try {
    await file.write(header);
    if (sparse) await file.truncate(header.byteLength + at);
    else {
      for (let left = at; left > 0; left -= BLOCK.byteLength) {
        await file.write(BLOCK, 0, Math.min(left, BLOCK.byteLength));
      }
    }
  } finally {
    await file.close();
  }
  return header.byteLength + at;
}

const baseConfig = (shape: LlamaShape) => ({
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  dtype: "bfloat16",
  hidden_size: shape.hidden,
  intermediate_size: shape.intermediate,
  num_attention_heads: shape.heads,
  num_key_value_heads: shape.keyValueHeads,
  num_hidden_layers: shape.layers,
  vocab_size: shape.vocabulary,
  tie_word_embeddings: false,
  _name_or_path: "generated/llama",
});
