import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A checkpoint and an adapter for it, of any size, for tests that need a merge to take a while. */
export interface GeneratedSize {
  readonly layers: number;
  /** Width of the square BF16 projections; one is `2 · hidden²` bytes. */
  readonly hidden: number;
  readonly rank: number;
  /** Weights files of the base; one where absent. */
  readonly shards?: number;
  /** The adapter changes so many layers, from the first on; all where absent. */
  readonly adapted?: number;
}

/** Writes `<folder>/base` and `<folder>/adapter`: random-looking weights, the same at every run. */
export async function generateCheckpoint(folder: string, size: GeneratedSize): Promise<void> {
  const { layers, hidden, rank, shards = 1, adapted = layers } = size;
  const base = join(folder, "base");
  const adapter = join(folder, "adapter");
  await mkdir(base, { recursive: true });
  await mkdir(adapter, { recursive: true });
  const names = Array.from({ length: layers }, (_, i) => `model.layers.${i}.self_attn.q_proj`);
  await writeFile(
    join(base, "config.json"),
    JSON.stringify({
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      hidden_size: hidden,
      num_hidden_layers: layers,
      num_attention_heads: 8,
      num_key_value_heads: 8,
      intermediate_size: hidden,
      vocab_size: 64,
      torch_dtype: "bfloat16",
    }),
  );
  await writeShards(
    base,
    shards,
    names.map((name) => ({ name: `${name}.weight`, dtype: "BF16", shape: [hidden, hidden] })),
  );
  await writeFile(
    join(adapter, "adapter_config.json"),
    JSON.stringify({
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      base_model_name_or_path: "generated/base",
      r: rank,
      lora_alpha: 2 * rank,
      target_modules: ["q_proj"],
      ...(adapted < layers && { layers_to_transform: Array.from({ length: adapted }, (_, i) => i) }),
      bias: "none",
    }),
  );
  await writeFile(
    join(adapter, "adapter_model.safetensors"),
    safetensors(
      names.slice(0, adapted).flatMap((name) => [
        { name: `base_model.model.${name}.lora_A.weight`, dtype: "F32" as const, shape: [rank, hidden] },
        { name: `base_model.model.${name}.lora_B.weight`, dtype: "F32" as const, shape: [hidden, rank] },
      ]),
    ),
  );
}

async function writeShards(folder: string, shards: number, tensors: readonly TensorSpec[]): Promise<void> {
  if (shards === 1) return writeFile(join(folder, "model.safetensors"), safetensors(tensors));
  const five = (n: number) => String(n).padStart(5, "0");
  const map: Record<string, string> = {};
  for (let i = 0; i < shards; i++) {
    const file = `model-${five(i + 1)}-of-${five(shards)}.safetensors`;
    const own = tensors.filter((_, at) => Math.floor((at * shards) / tensors.length) === i);
    for (const { name } of own) map[name] = file;
    await writeFile(join(folder, file), safetensors(own));
  }
  const index = { metadata: {}, weight_map: map };
  await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
}

interface TensorSpec {
  readonly name: string;
  readonly dtype: "BF16" | "F32";
  readonly shape: readonly number[];
}

/** A safetensors file in memory whose tensors hold values around ±0.1. */
export function safetensors(tensors: readonly TensorSpec[]): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const bytes = shape.reduce((product, n) => product * n, dtype === "BF16" ? 2 : 4);
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const file = Buffer.alloc(8 + json.length + offset);
  file.writeBigUInt64LE(BigInt(json.length));
  json.copy(file, 8);
  const seeds = patterns();
  let at = 8 + json.length;
  for (const { dtype, shape } of tensors) {
    const bytes = shape.reduce((product, n) => product * n, dtype === "BF16" ? 2 : 4);
    file.fill(seeds[dtype], at, at + bytes);
    at += bytes;
  }
  return file;
}

/** A prime number of values, so that no two rows are the same. */
function patterns(): { BF16: Buffer; F32: Buffer } {
  const floats = new Float32Array(10_007);
  let state = 12345;
  for (let i = 0; i < floats.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    floats[i] = (state / 2 ** 32 - 0.5) / 5;
  }
  const F32 = Buffer.from(floats.buffer);
  const BF16 = Buffer.alloc(floats.length * 2);
  for (let i = 0; i < floats.length; i++) BF16.writeUInt16LE(F32.readUInt16LE(4 * i + 2), 2 * i);
  return { F32, BF16 };
}
