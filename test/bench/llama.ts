import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { byteLength, type Dtype } from "../../src/core/dtype.ts";
import { buildSafetensorsHeader } from "../../src/core/safetensors.ts";

/** A Llama-shaped model: TinyLlama's widths, as many layers as the size asks for. */
export interface LlamaShape {
  readonly layers: number;
  readonly shards: number;
  /** Rank of the adapter on all seven linear layers. */
  readonly rank: number;
}

interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

const HIDDEN = 2048;
const INTERMEDIATE = 5632;
const KEY_VALUE = 256;
const VOCABULARY = 32_000;
/** Linear layers with [out, in]. */
const LINEARS: readonly (readonly [string, number, number])[] = [
  ["self_attn.q_proj", HIDDEN, HIDDEN],
  ["self_attn.k_proj", KEY_VALUE, HIDDEN],
  ["self_attn.v_proj", KEY_VALUE, HIDDEN],
  ["self_attn.o_proj", HIDDEN, HIDDEN],
  ["mlp.gate_proj", INTERMEDIATE, HIDDEN],
  ["mlp.up_proj", INTERMEDIATE, HIDDEN],
  ["mlp.down_proj", HIDDEN, INTERMEDIATE],
];

function baseEntries(layers: number): Entry[] {
  const bf16 = (name: string, ...shape: number[]): Entry => ({
    name: `${name}.weight`,
    dtype: "BF16",
    shape,
  });
  const blocks = Array.from({ length: layers }, (_, i) => [
    ...LINEARS.map(([name, out, width]) => bf16(`model.layers.${i}.${name}`, out, width)),
    bf16(`model.layers.${i}.input_layernorm`, HIDDEN),
    bf16(`model.layers.${i}.post_attention_layernorm`, HIDDEN),
  ]);
  return [
    bf16("model.embed_tokens", VOCABULARY, HIDDEN),
    ...blocks.flat(),
    bf16("model.norm", HIDDEN),
    bf16("lm_head", VOCABULARY, HIDDEN),
  ];
}

function adapterEntries({ layers, rank }: LlamaShape): Entry[] {
  return Array.from({ length: layers }, (_, i) =>
    LINEARS.flatMap(([name, out, width]): Entry[] => [
      {
        name: `base_model.model.model.layers.${i}.${name}.lora_A.weight`,
        dtype: "F32",
        shape: [rank, width],
      },
      { name: `base_model.model.model.layers.${i}.${name}.lora_B.weight`, dtype: "F32", shape: [out, rank] },
    ]),
  ).flat();
}

/** Writes `<folder>/base` (BF16) and `<folder>/adapter` (F32); returns the bytes of the base. */
export async function generateLlama(folder: string, shape: LlamaShape): Promise<number> {
  const base = join(folder, "base");
  const adapter = join(folder, "adapter");
  await mkdir(base, { recursive: true });
  await mkdir(adapter, { recursive: true });
  const bytes = await writeBase(base, shape);
  await writeShard(join(adapter, "adapter_model.safetensors"), adapterEntries(shape));
  await writeFile(join(adapter, "adapter_config.json"), JSON.stringify(adapterConfig(shape)));
  return bytes;
}

async function writeBase(folder: string, shape: LlamaShape): Promise<number> {
  const entries = baseEntries(shape.layers);
  const total = entries.reduce((sum, e) => sum + byteLength(e.dtype, e.shape)!, 0);
  const weightMap: Record<string, string> = {};
  let bytes = 0;
  let next = 0;
  for (let i = 0; i < shape.shards; i++) {
    const name = `model-${String(i + 1).padStart(5, "0")}-of-${String(shape.shards).padStart(5, "0")}.safetensors`;
    const shard: Entry[] = [];
    for (
      let held = 0;
      next < entries.length && (i === shape.shards - 1 || held < total / shape.shards);
      next++
    ) {
      const entry = entries[next]!;
      shard.push(entry);
      weightMap[entry.name] = name;
      held += byteLength(entry.dtype, entry.shape)!;
    }
    bytes += await writeShard(join(folder, name), shard);
  }
  const index = { metadata: { total_size: total }, weight_map: weightMap };
  await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index, null, 2));
  await writeFile(join(folder, "config.json"), JSON.stringify(baseConfig(shape)));
  return bytes;
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

async function writeShard(path: string, entries: readonly Entry[]): Promise<number> {
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
    for (let left = at; left > 0; left -= BLOCK.byteLength) {
      await file.write(BLOCK, 0, Math.min(left, BLOCK.byteLength));
    }
  } finally {
    await file.close();
  }
  return header.byteLength + at;
}

const baseConfig = ({ layers }: LlamaShape) => ({
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  dtype: "bfloat16",
  hidden_size: HIDDEN,
  intermediate_size: INTERMEDIATE,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  num_hidden_layers: layers,
  vocab_size: VOCABULARY,
  tie_word_embeddings: false,
  _name_or_path: "generated/llama",
});

const adapterConfig = ({ rank }: LlamaShape) => ({
  peft_type: "LORA",
  task_type: "CAUSAL_LM",
  base_model_name_or_path: "generated/llama",
  r: rank,
  lora_alpha: 2 * rank,
  target_modules: LINEARS.map(([name]) => name.split(".")[1]),
});
