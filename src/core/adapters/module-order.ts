/** Types of models whose layers define their linear modules in the order below. */
const LLAMA_LIKE = new Set(
  (
    "llama mistral qwen2 qwen3 gemma gemma2 gemma3_text olmo olmo2 smollm3 cohere cohere2 stablelm granite helium " +
    "exaone4 ernie4_5 seed_oss"
  ).split(" "),
);

const IN_A_LAYER = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
];

interface Place {
  readonly module: string;
  /** What stands before the number of the layer. */
  readonly before: string;
  readonly layer: number;
  /** Within the layer. */
  readonly after: string;
}

/**
 * Linear modules in the order in which a model of transformers defines them: by layer, and within a layer as its class
 * has them, which differs from the order of their names.
 * @returns null where the order is not known: modules outside of numbered layers, or several of a layer in a model type
 * that is not listed here
 */
export function definitionOrder(
  modules: readonly string[],
  modelType: string | null,
): readonly string[] | null {
  if (modules.length <= 1) return modules;
  const places = modules.map(placeOf);
  if (!places.every((place) => place !== null)) return null;
  if (new Set(places.map(({ before }) => before)).size > 1) return null;
  const alike = new Set(places.map(({ after }) => after)).size <= 1;
  const listed = modelType !== null && LLAMA_LIKE.has(modelType);
  if (!alike && !(listed && places.every(({ after }) => IN_A_LAYER.includes(after)))) return null;
  const rank = ({ after }: Place) => IN_A_LAYER.indexOf(after);
  return [...places].sort((a, b) => a.layer - b.layer || rank(a) - rank(b)).map(({ module }) => module);
}

function placeOf(module: string): Place | null {
  const match = /^(.*?)\.(\d+)\.(.+)$/.exec(module);
  return match && { module, before: match[1]!, layer: Number(match[2]), after: match[3]! };
}
