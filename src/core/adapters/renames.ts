/*
 * Where the names of a checkpoint and the names of transformers 5 in memory differ, by model type (transformers'
 * conversion_mapping.py, 5.18). Adapters carry names in memory. Each rule must leave names alone that are already in
 * the second form, because checkpoints and adapters of either age meet.
 */

type Rule = readonly [from: RegExp, to: string];

/** BERT-era checkpoints of every family. */
const LEGACY: readonly Rule[] = [
  [/LayerNorm\.gamma$/, "LayerNorm.weight"],
  [/LayerNorm\.beta$/, "LayerNorm.bias"],
];

/** A part of a multimodal model that moved below `model.`. */
const inModel = (...parts: string[]): Rule[] =>
  parts.map((part) => [new RegExp(`^${part}(?=\\.|$)`), `model.${part}`]);

const LANGUAGE_MODEL: readonly Rule[] = [
  [/^language_model\.lm_head\./, "lm_head."],
  // Some releases of transformers wrote the level twice.
  [/^language_model\.model\.(model\.)?/, "model.language_model."],
  [/^language_model\./, "model.language_model."],
];

const LLAVA: readonly Rule[] = [
  ...LANGUAGE_MODEL,
  ...inModel("vision_tower", "multi_modal_projector", "image_newline"),
  // CLIP and SigLIP towers lost a level.
  [/^model\.vision_tower\.vision_model\./, "model.vision_tower."],
];

const AUDIO: readonly Rule[] = [...LANGUAGE_MODEL, ...inModel("audio_tower", "multi_modal_projector")];

const QWEN2_VL: readonly Rule[] = [
  ...inModel("visual"),
  [/^model\.(?!language_model\.|visual\.)/, "model.language_model."],
];

/** The experts themselves are fused in memory: `experts.ts`. */
const BLOCK_SPARSE: readonly Rule[] = [[/\.block_sparse_moe\./, ".mlp."]];

const VIT: readonly Rule[] = [
  [/(^|\.)encoder\.layer\./, "$1layers."],
  [/\.attention\.attention\.query\./, ".attention.q_proj."],
  [/\.attention\.attention\.key\./, ".attention.k_proj."],
  [/\.attention\.attention\.value\./, ".attention.v_proj."],
  [/\.attention\.output\.dense\./, ".attention.o_proj."],
  [/\.intermediate\.dense\./, ".mlp.fc1."],
  [/\.output\.dense\./, ".mlp.fc2."],
];

const DINOV2: readonly Rule[] = [...VIT.slice(1, 5), [/\.mlp\.weights_out\./, ".mlp.down_proj."]];

const SELF_ATTENTION: readonly Rule[] = [
  [/\.attention\.self\.query\./, ".attention.q_proj."],
  [/\.attention\.self\.key\./, ".attention.k_proj."],
  [/\.attention\.self\.value\./, ".attention.v_proj."],
  [/\.attention\.output\.dense\./, ".attention.o_proj."],
];

const ARIA_EXPERTS: readonly Rule[] = [
  [/\.mlp\.experts\.fc1\.weight$/, ".mlp.experts.gate_up_proj"],
  [/\.mlp\.experts\.fc2\.weight$/, ".mlp.experts.down_proj"],
];

const SEGFORMER: readonly Rule[] = [
  [/(^|\.)encoder\.patch_embeddings\.(\d+)\./, "$1stages.$2.patch_embeddings."],
  [/(^|\.)encoder\.block\.(\d+)\./, "$1stages.$2.blocks."],
  [/(^|\.)encoder\.layer_norm\.(\d+)\./, "$1stages.$2.layer_norm."],
  ...SELF_ATTENTION,
  [/\.attention\.self\.sr\./, ".attention.sequence_reduction.sequence_reduction."],
  [/\.attention\.self\.layer_norm\./, ".attention.sequence_reduction.layer_norm."],
  [/\.mlp\.dense1\./, ".mlp.fc1."],
  [/\.mlp\.dense2\./, ".mlp.fc2."],
  [/\.layer_norm_1\./, ".layernorm_before."],
  [/\.layer_norm_2\./, ".layernorm_after."],
  [/^decode_head\.linear_c\./, "decode_head.linear_projections."],
];

const FAMILIES: readonly (readonly [types: string, rules: readonly Rule[]])[] = [
  [
    "llava paligemma aya_vision got_ocr2 gemma3 internvl vipllava mistral3 pp_chart2table llava_next llava_next_video llava_onevision",
    LLAVA,
  ],
  ["video_llava", [...LANGUAGE_MODEL, ...inModel("image_tower", "video_tower", "multi_modal_projector")]],
  ["fuyu", [...LANGUAGE_MODEL, ...inModel("vision_embed_tokens")]],
  ["mllama", [...LANGUAGE_MODEL, ...inModel("vision_model", "multi_modal_projector")]],
  ["qwen2_audio voxtral voxtral_realtime audioflamingo3 glmasr musicflamingo", AUDIO],
  ["granite_speech granite_speech_plus", [...LANGUAGE_MODEL, ...inModel("encoder", "projector")]],
  [
    "emu3",
    [
      [/^text_model\.lm_head\./, "lm_head."],
      [/^text_model\.model\./, "model.text_model."],
      [/^text_model\./, "model.text_model."],
      ...inModel("vqmodel"),
    ],
  ],
  ["qwen2_vl qwen2_5_vl", QWEN2_VL],
  [
    "paddleocr_vl",
    [
      [/^mlp_AR\./, "model.projector."],
      ...inModel("visual"),
      [/^model\.(?!visual\.|projector\.|language_model\.)/, "model.language_model."],
    ],
  ],
  ["qwen3_5_text qwen3_5_moe_text gemma3n_text", [[/^model\.language_model\./, "model."]]],
  ["mixtral minimax minimax_m2", BLOCK_SPARSE],
  ["phimoe", [...BLOCK_SPARSE, [/\.mlp\.gate\./, ".mlp.router."]]],
  [
    "granitemoe granitemoeshared granitemoehybrid",
    [
      [/\.block_sparse_moe\.input_linear\.weight$/, ".block_sparse_moe.experts.gate_up_proj"],
      [/\.block_sparse_moe\.output_linear\.weight$/, ".block_sparse_moe.experts.down_proj"],
      [/\.block_sparse_moe\.router\.layer\.weight$/, ".block_sparse_moe.router.weight"],
    ],
  ],
  ["aria_text", ARIA_EXPERTS],
  ["aria", [...LLAVA, ...ARIA_EXPERTS]],
  ["segformer", SEGFORMER],
  ["gpt_neox", [[/^embed_out\./, "lm_head."]]],
  ["vit audio-spectrogram-transformer beit deit ijepa vit_mae vit_msn vivit", VIT],
  ["dinov2 dinov2_with_registers", DINOV2],
  ["swin", [...SELF_ATTENTION, [/\.intermediate\.dense\./, ".mlp.fc1."], [/\.output\.dense\./, ".mlp.fc2."]]],
];

const BY_TYPE = new Map(
  FAMILIES.flatMap(([types, rules]) => types.split(" ").map((type) => [type, rules] as const)),
);

/** The renames of a model type, applied one after the other. */
export function renamesOf(modelType: string | null): (name: string) => string {
  const rules = [...(BY_TYPE.get(modelType ?? "") ?? []), ...LEGACY];
  return (name) => rules.reduce((text, [from, to]) => text.replace(from, to), name);
}
