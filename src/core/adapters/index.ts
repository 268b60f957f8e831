import type { ModelFacts } from "../arch.ts";
import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Dtype } from "../dtype.ts";
import type { Finding } from "../errors.ts";
import { type Expr, type Leaf, leaves } from "../expr.ts";
import { foreignConfig, foreignFormat, foreignKeys } from "../foreign.ts";
import type { Json, JsonObject } from "../json.ts";
import type { Recipe } from "../recipe.ts";
import { parseAdalora } from "./adalora.ts";
import { parseBeft } from "./beft.ts";
import { parseBoft } from "./boft.ts";
import { parseC3a } from "./c3a.ts";
import { parseCarrying } from "./carried.ts";
import { parseDeft } from "./deft.ts";
import { parseDelora } from "./delora.ts";
import { parseGlora } from "./glora.ts";
import { parseGralora } from "./gralora.ts";
import { parseHira } from "./hira.ts";
import { parseHra } from "./hra.ts";
import { parseIa3 } from "./ia3.ts";
import { refuseKind } from "./kinds.ts";
import { parseLnTuning } from "./ln-tuning.ts";
import { parseLoha } from "./loha.ts";
import { parseLokr } from "./lokr.ts";
import { parseLora } from "./lora.ts";
import { parseBone, parseMiss } from "./miss.ts";
import { parseMlx } from "./mlx.ts";
import { badField } from "./module-names.ts";
import { parseOft } from "./oft.ts";
import { parsePeanut } from "./peanut.ts";
import { parseRandlora } from "./randlora.ts";
import { parseRoad } from "./road.ts";
import { parseShira } from "./shira.ts";
import { parseSupertuning } from "./supertuning.ts";
import { parseTinylora } from "./tinylora.ts";
import { parseTrainableTokens } from "./trainable-tokens.ts";
import { parseVblora } from "./vblora.ts";
import { parsePvera, parseVera } from "./vera.ts";

/** What a kind needs to turn an adapter into expressions: headers and configs, no bytes. */
export interface AdapterInput {
  /** adapter_config.json. */
  readonly config: JsonObject;
  readonly tensors: readonly TensorFacts[];
  readonly base: ReadonlyMap<string, LocatedTensor>;
  readonly model: ModelFacts;
  /** Position among the recipe's sources. */
  readonly source: number;
  /** How tied embeddings are merged. */
  readonly ties: Recipe["ties"];
  /** config.json of the base, where fields of it follow from the adapter's. */
  readonly baseConfig?: JsonObject;
}

/** One output tensor that the adapter changes, adds or replaces. */
export interface AdapterTarget {
  /** Name in the output. */
  readonly tensor: string;
  /** As the adapter names it: what a partial merge's include and exclude are matched with. */
  readonly module: string;
  /** What happens, for people: "LoRA", "DoRA", "IA3", "bias", "whole module", "token rows", "untied copy". */
  readonly change: string;
  /** `null` where the kind has none. */
  readonly rank: number | null;
  readonly alpha: number | null;
  /** In float64, before it is rounded to float32 for the multiplication. */
  readonly scale: number | null;
  readonly expr: Expr;
  /** Of a tensor that the base lacks, or has with another shape. */
  readonly shape?: readonly number[];
  /** Of a tensor that the base lacks. */
  readonly dtype?: Dtype;
}

export interface ParsedAdapter {
  readonly targets: readonly AdapterTarget[];
  /** Every reason to refuse. */
  readonly problems: readonly Finding[];
  readonly warnings: readonly Finding[];
  /** Adapter tensors without a part in the merge, on purpose. */
  readonly ignored?: ReadonlySet<string>;
  /** Fields of config.json that the merge changes, such as `tie_word_embeddings`; read in `text_config` where that has them. */
  readonly config?: Readonly<Record<string, Json>>;
  /** Output tensors and the base tensors whose bytes they start from, where they are not the base's own (layer replication). */
  readonly tensors?: ReadonlyMap<string, string>;
  /** What both sides of a tied pair start from, where the adapter carries its own copy of the shared matrix. */
  readonly start?: Leaf;
}

type Parser = (input: AdapterInput) => ParsedAdapter;

/** `peft_type` → detect, parse, expression. A new kind is one file and one line here. */
const KINDS: Readonly<Record<string, Parser>> = {
  ADALORA: parseAdalora,
  BEFT: parseBeft,
  BOFT: parseBoft,
  BONE: parseBone,
  C3A: parseC3a,
  DEFT: parseDeft,
  DELORA: parseDelora,
  GLORA: parseGlora,
  GRALORA: parseGralora,
  HIRA: parseHira,
  HRA: parseHra,
  IA3: parseIa3,
  LN_TUNING: parseLnTuning,
  LOHA: parseLoha,
  LOKR: parseLokr,
  LORA: parseLora,
  MISS: parseMiss,
  OFT: parseOft,
  PEANUT: parsePeanut,
  PVERA: parsePvera,
  RANDLORA: parseRandlora,
  ROAD: parseRoad,
  SHIRA: parseShira,
  SUPERTUNING: parseSupertuning,
  TINYLORA: parseTinylora,
  TRAINABLE_TOKENS: parseTrainableTokens,
  VBLORA: parseVblora,
  VERA: parseVera,
};

/** Turns an adapter into one expression for each tensor it changes, or says why it cannot. */
export function parseAdapter(input: AdapterInput): ParsedAdapter {
  const parse = parserOf(input);
  if (typeof parse !== "function") return { targets: [], warnings: [], problems: [parse] };
  // What PEFT puts around the factors is not in another tool's file.
  const parsed = parse === parseMlx ? parse(input) : parseCarrying(parse, input);
  return { ...parsed, problems: [...parsed.problems, ...orphans(input, parsed)] };
}

/** Who reads the adapter, or why nobody does. Files of other ecosystems may stand in PEFT's place, by name or config. */
function parserOf({ config, tensors }: AdapterInput): Parser | Finding {
  const foreign = foreignConfig(config);
  if (foreign === "mlx") return parseMlx;
  if (foreign) return foreignFormat(foreign, "adapter_config.json");
  const keys = foreignKeys(tensors.map(({ name }) => name));
  if (keys) return foreignFormat(keys, "the adapter's file");
  // AdaLoRA prunes modules to no rank at all, and its parser knows which.
  const empty = config.peft_type === "ADALORA" ? [] : tensors.filter(({ shape }) => shape.includes(0));
  if (empty.length > 0 && 2 * empty.length >= tensors.length) return ungathered(empty[0]!.name, empty.length);
  const peftType = config.peft_type;
  if (typeof peftType !== "string") return badField("peft_type", peftType, "a string");
  return (Object.hasOwn(KINDS, peftType) ? KINDS[peftType] : undefined) ?? refuseKind(peftType);
}

/** DeepSpeed ZeRO-3 and FSDP keep a part of each parameter on each device; what one of them saves alone is empty. */
function ungathered(example: string, count: number): Finding {
  return {
    code: "EMPTY_TENSORS",
    subject: example,
    message: `${count} adapter tensors (for example "${example}") have no elements: they were saved without being gathered from all devices (DeepSpeed ZeRO-3, FSDP). Save again with stage3_gather_16bit_weights_on_model_save, or convert the checkpoint with zero_to_fp32.py.`,
  };
}

const MAX_EXPLAINED = 1000;

/** Every adapter tensor must have a part in the merge: what nothing uses is training that would be lost. */
function orphans({ tensors, source }: AdapterInput, parsed: ParsedAdapter): Finding[] {
  // Nothing was understood, and the reasons are there already.
  if (parsed.targets.length === 0 && parsed.problems.length > 0) return [];
  const used = new Set<string>(parsed.ignored);
  for (const target of parsed.targets) {
    for (const leaf of leaves(target.expr)) {
      if (leaf.op === "source" && leaf.source === source) used.add(leaf.tensor);
    }
  }
  const explained = parsed.problems.flatMap(({ subject }) => (subject === undefined ? [] : [subject]));
  // Reasons enough; each tensor would be compared with each of them.
  if (explained.length > MAX_EXPLAINED) return [];
  return tensors
    .filter(({ name }) => !used.has(name) && !explained.some((subject) => name.includes(subject)))
    .map(({ name }) => orphan(name, "nothing in the merge uses it"));
}

export function orphan(name: string, why: string): Finding {
  return {
    code: "ORPHAN_TENSOR",
    subject: name,
    message: `adapter tensor "${name}": ${why}. Merging without it would lose part of the training; check target_modules and the base.`,
  };
}
