import type { Finding } from "./errors.ts";
import { isJsonObject, type JsonObject } from "./json.ts";

/** Fine-tuning tools whose adapter files are not PEFT's. */
interface Ecosystem {
  /** As people call it. */
  readonly name: string;
  /** The way out. */
  readonly instead: string;
  /** Tensor names that only it writes. */
  readonly keys?: RegExp;
}

const DIFFUSION =
  "it belongs to an image model, whose names and scales differ from a language model's: load it with diffusers (load_lora_weights, then fuse_lora) and save the pipeline";

/** In the order in which they are looked for: LyCORIS writes kohya's prefixes too. */
const ECOSYSTEMS = {
  lycoris: {
    name: "LyCORIS",
    instead: DIFFUSION,
    keys: /^(lycoris_|lora_[a-z0-9]+_).*\.(hada_(w[12]_[ab]|t[12])|lokr_(w[12](_[ab])?|t[12])|oft_(blocks|diag)|[wb]_norm|diff(_b)?|[abc][12]\.weight|on_input)$/,
  },
  kohya: {
    name: "kohya-ss sd-scripts",
    instead: DIFFUSION,
    keys: /\.lora_(down|up|mid)(\.weight)?$|^lora_[a-z0-9]+_.*\.(alpha|dora_scale)$/,
  },
  diffusers: {
    name: "diffusers",
    instead: DIFFUSION,
    keys: /^((unet|text_encoder(_\d)?|prior|diffusion_model)\.|transformer\.(single_)?transformer_blocks\.)|\.to_(q|k|v|out)_lora\.|\.lora(_linear_layer)?\.(down|up)\.weight$/,
  },
  torchtune: {
    name: "torchtune",
    instead:
      "torchtune's own names and row order differ from the checkpoint's: save with its FullModelHFCheckpointer, which writes adapter_model.safetensors in PEFT's format beside it",
    keys: /^(decoder\.)?(layers\.\d+\.(attn|mlp)|output|tok_embeddings)\.?.*\.?(lora_[ab]\.weight|magnitude)$/,
  },
  mlx: {
    name: "MLX",
    instead:
      "MLX keeps the scale in its own adapter_config.json: put adapters.safetensors and that file into one folder, or merge with mlx_lm.fuse",
    keys: /\.lora_[ab]$/,
  },
  gguf: {
    name: "GGUF (llama.cpp)",
    instead:
      "its tensors are renamed, reordered and often quantised: merge the adapter that it was converted from (convert_lora_to_gguf.py reads a PEFT folder), then convert the result with convert_hf_to_gguf.py",
  },
  adapterHub: {
    name: "AdapterHub (the adapters library)",
    instead: "merge it with that library (model.merge_adapter) and import the saved model",
  },
} as const satisfies Record<string, Ecosystem>;

export type ForeignFormat = keyof typeof ECOSYSTEMS;

/** The ecosystem that wrote tensors of these names, where it is not PEFT; `null`: none that is known. */
export function foreignKeys(names: readonly string[]): ForeignFormat | null {
  for (const [format, ecosystem] of Object.entries<Ecosystem>(ECOSYSTEMS)) {
    const { keys } = ecosystem;
    if (!keys) continue;
    const matching = names.filter((name) => keys.test(name)).length;
    if (matching > 0 && 2 * matching >= names.length) return format as ForeignFormat;
  }
  return null;
}

/** The same from a safetensors file's metadata; sd-scripts and LyCORIS say what trained the file. */
export function foreignMetadata(metadata: Readonly<Record<string, string>>): ForeignFormat | null {
  const module = metadata.ss_network_module;
  if (module === undefined) return null;
  return module.startsWith("lycoris") ? "lycoris" : "kohya";
}

/** The ecosystem that wrote an adapter_config.json without PEFT's `peft_type`. */
export function foreignConfig(config: JsonObject): ForeignFormat | null {
  if (config.peft_type !== undefined) return null;
  if (isJsonObject(config.lora_parameters) || typeof config.fine_tune_type === "string") return "mlx";
  if (isJsonObject(config.config) && typeof config.model_class === "string") return "adapterHub";
  return null;
}

/** Whether an adapter_config.json is one of mlx-lm, whose LoRA is read. */
export function isMlxConfig(config: JsonObject): boolean {
  return foreignConfig(config) === "mlx";
}

/** The base that an adapter says it was trained on; `null` where it says nothing. */
export function statedBase(config: JsonObject): string | null {
  const stated = isMlxConfig(config) ? config.model : config.base_model_name_or_path;
  return typeof stated === "string" && stated !== "" ? stated : null;
}

/** The refusal of a file of another ecosystem. */
export function foreignFormat(format: ForeignFormat, where: string): Finding {
  const { name, instead } = ECOSYSTEMS[format];
  return {
    code: "FOREIGN_FORMAT",
    subject: name,
    details: { ecosystem: name },
    message: `${where} was written for ${name}, not by PEFT; ${instead}.`,
  };
}

/** What the first bytes of a file that claims to hold weights say it is. */
export function sniffBytes(start: Uint8Array): "gguf" | "lfs-pointer" | "zip" | null {
  const text = new TextDecoder("latin1").decode(start.subarray(0, 32));
  if (text.startsWith("GGUF")) return "gguf";
  if (text.startsWith("version https://git-lfs")) return "lfs-pointer";
  return text.startsWith("PK\x03\x04") ? "zip" : null;
}
