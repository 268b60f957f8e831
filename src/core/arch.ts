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

/**
 * Model types of transformers 5.18 whose config class ties embeddings unless the file says otherwise (object detectors
 * and audio codecs among them left out), and one of remote code.
 */
const TIED_BY_DEFAULT = new Set(
  (
    "albert aya_vision bart bert bert-generation big_bird bigbird_pegasus biogpt blenderbot blenderbot-small " +
    "blip blip_text_model bloom camembert canary cohere cohere2 cohere2_moe cohere2_vision " +
    "cohere_compass_text convbert cpmant ctrl data2vec-text deberta deberta-v2 deepseek_vl " +
    "deepseek_vl_hybrid diffusion_gemma diffusion_gemma_text distilbert electra ernie ernie4_5 ernie4_5_moe " +
    "ernie4_5_vl_moe ernie4_5_vl_moe_text esm falcon falcon_mamba flaubert flava florence2 fnet fun_asr_nano " +
    "funnel gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text " +
    "gemma4_unified gemma4_unified_assistant gemma4_unified_text glmasr got_ocr2 gpt-sw3 gpt2 gpt_bigcode " +
    "gpt_neo gpt_neox_japanese granite_speech granite_speech5_ctc granite_speech_plus granite_swa gte " +
    "hunyuan_vl hunyuan_vl_text hyperclovax_vision_v2 ibert internvl janus jetmoe jina_embeddings_v3 " +
    "kimi_k25 kosmos-2 kosmos-2.5 kosmos_2_5_text_model kosmos_2_text_model layoutlm led lfm2 lfm2_moe " +
    "lfm2_vl lighton_ocr longformer longt5 luke lxmert m2m_100 mamba marian mbart megatron-bert minicpm3 " +
    "mistral3 mobilebert modernbert modernbert-decoder moonshine mpnet mpt mra mt5 mvp neomme nllb-moe " +
    "nomic_bert nystromformer openai-gpt opt ovis2 paddleocr_vl paddleocr_vl_text paligemma pegasus " +
    "pegasus_x phi3small plbart pop2piano pp_chart2table prophetnet qwen2_5_omni_text qwen3_asr " +
    "qwen3_vl_moe_text recurrent_gemma roberta roberta-prelayernorm roc_bert roformer seamless_m4t " +
    "seamless_m4t_v2 shieldgemma2 smollm3 speech_to_text speecht5 squeezebert starcoder2 switch_transformers " +
    "t5 t5_gemma_module t5gemma t5gemma2 t5gemma2_decoder t5gemma2_encoder t5gemma2_text tapas trocr udop " +
    "umt5 vaultgemma vilt visual_bert voxtral_realtime whisper xglm xlm xlm-roberta xlm-roberta-xl xlnet " +
    "xmod yoso youtu zamba zamba2 zaya"
  ).split(" "),
);

/** transformers leaves out a field that equals its class default. */
function tiedByDefault(config: JsonObject): boolean {
  return TIED_BY_DEFAULT.has(asText(config.model_type) ?? "");
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
