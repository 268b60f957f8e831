import type { CheckpointFacts } from "./checkpoint.ts";
import { allTensors } from "./checkpoint.ts";
import { type Dtype, elementCount } from "./dtype.ts";
import { isJsonObject, type Json, type JsonObject } from "./json.ts";

/** What a config.json says about a model, as far as merging and showing it need. */
export interface ModelFacts {
  /** First entry of `architectures`, e.g. `LlamaForCausalLM`. */
  readonly architecture: string | null;
  readonly modelType: string | null;
  readonly vocabSize: number | null;
  readonly tiedEmbeddings: boolean;
  /** `quant_method` of a quantised checkpoint. */
  readonly quantMethod: string | null;
  /** Where the config says the model came from. */
  readonly nameOrPath: string | null;
}

export function readModelFacts(config: JsonObject): ModelFacts {
  const [architecture] = Array.isArray(config.architectures) ? config.architectures : [];
  // Multimodal configs keep the language model's fields one level down.
  const text = isJsonObject(config.text_config) ? config.text_config : config;
  const quantization = config.quantization_config;
  return {
    architecture: asText(architecture),
    modelType: asText(config.model_type),
    vocabSize: asNumber(config.vocab_size) ?? asNumber(text.vocab_size),
    tiedEmbeddings:
      (config.tie_word_embeddings ?? text.tie_word_embeddings ?? tiedByDefault(config)) === true,
    quantMethod: isJsonObject(quantization) ? (asText(quantization.quant_method) ?? "unknown") : null,
    nameOrPath: asText(config._name_or_path),
  };
}

/** transformers leaves out a field that equals its class default, and these classes tie by default. */
function tiedByDefault(config: JsonObject): boolean {
  const tied = [
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gpt2",
    "cohere",
    "cohere2",
    "phi3small",
    "smollm3",
    "bloom",
    "falcon",
    "gpt_bigcode",
    "gpt_neo",
    "mpt",
    "opt",
    "starcoder2",
  ];
  return tied.includes(asText(config.model_type) ?? "");
}

/** Model types whose "linear" layers are transformers' Conv1D, stored (in, out) instead of (out, in). */
const CONV1D_MODEL_TYPES = new Set(["gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"]);

export function usesConv1D(modelType: string | null): boolean {
  return modelType !== null && CONV1D_MODEL_TYPES.has(modelType);
}

/** The Conv1D layers of those models; their embeddings and heads are not transposed. */
const CONV1D_MODULE = /(^|\.)(c_attn|q_attn|c_proj|c_fc)(\.base_layer)*$/;

/** Whether a module is a Conv1D, whose weight is stored (in, out). */
export function isConv1D(modelType: string | null, module: string): boolean {
  return usesConv1D(modelType) && CONV1D_MODULE.test(module);
}

export interface ParameterCounts {
  readonly parameters: number;
  /** The dtype that holds most parameters. */
  readonly dtype: Dtype | null;
  /** Bytes of tensor data. */
  readonly tensorBytes: number;
}

export function countParameters(facts: Pick<CheckpointFacts, "weights">): ParameterCounts {
  const byDtype = new Map<Dtype, number>();
  let parameters = 0;
  let tensorBytes = 0;
  for (const tensor of allTensors(facts)) {
    const count = elementCount(tensor.shape);
    parameters += count;
    tensorBytes += tensor.end - tensor.begin;
    byDtype.set(tensor.dtype, (byDtype.get(tensor.dtype) ?? 0) + count);
  }
  const [most] = [...byDtype].sort((a, b) => b[1] - a[1]);
  return { parameters, dtype: most?.[0] ?? null, tensorBytes };
}

function asText(value: Json | undefined): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function asNumber(value: Json | undefined): number | null {
  return typeof value === "number" ? value : null;
}
