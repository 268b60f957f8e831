import type { ModelFacts } from "../arch.ts";
import type { LocatedTensor } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import { base as baseLeaf, type Expr, type Leaf, round } from "../expr.ts";
import type { Json } from "../json.ts";
import type { Recipe } from "../recipe.ts";
import type { AdapterTarget } from "./index.ts";
import { replaceLeaf, sameExpr } from "./rewrite.ts";

/** The input embedding and the output head of a language model. */
export interface VocabularyPair {
  /** Name of the embedding's weight in the checkpoint. */
  readonly embedding: LocatedTensor;
  /** Name of the head's weight, whether it is stored or not. */
  readonly head: string;
}

type Base = ReadonlyMap<string, LocatedTensor>;

const EMBEDDING = /(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|tokens_embed)\.weight$/;
/** Mamba's, below its own name alone: BERT's `embeddings` is a module of several. */
const MAMBA_EMBEDDING = /(^|\.)backbone\.embeddings\.weight$/;
/** What stands before the embedding and not before the head. */
const BODY =
  /(^|\.)(model\.language_model|language_model|model\.decoder|model|transformer|backbone|gpt_neox)\.$/;
/** Classes that score tokens; a classifier of the same family has no head to tie. */
const SCORES_TOKENS = /(CausalLM|LMHead|ConditionalGeneration|MaskedLM|PreTraining|DoubleHeads)/;

/** The one tensor that embeds tokens; `null` where there is none, or more than one. */
export function embeddingOf(base: Base): LocatedTensor | null {
  const found = [...base.values()].filter(({ name }) => EMBEDDING.test(name) || MAMBA_EMBEDDING.test(name));
  return found.length === 1 ? found[0]! : null;
}

/**
 * The pair of a decoder; `null` for models that embed tokens in another way, or have no head over the vocabulary.
 * Names are those of the checkpoint: transformers stores a tied pair as its embedding.
 */
export function vocabularyPair(base: Base, model: ModelFacts): VocabularyPair | null {
  const embedding = embeddingOf(base);
  if (!embedding || !scoresTokens(model) || isTwoSided(base)) return null;
  const prefix = embedding.name.replace(/[^.]+\.weight$/, "").replace(BODY, "$1");
  const words = model.modelType?.startsWith("gpt_neox") ? ["embed_out", "lm_head"] : ["lm_head", "embed_out"];
  const names = words.map((word) => `${prefix}${word}.weight`);
  return { embedding, head: names.find((name) => base.has(name)) ?? names[0]! };
}

const scoresTokens = ({ architecture }: ModelFacts) =>
  architecture === null || SCORES_TOKENS.test(architecture);

/** Encoders, and encoders with a decoder, tie more than a pair (T5 even scales by it), with names of their own. */
const isTwoSided = (base: Base) =>
  [...base.keys()].some((name) => /(^|\.)(encoder|shared)\./.test(name) && !TOWER.test(name));
/** What reads images or sound beside a decoder is an encoder that has no part in the tie. */
const TOWER = /(^|\.)(vision|visual|image|video|audio)(_[a-z]+)?\./;

/** What a tied pair is, as far as headers and digests tell. */
export interface TiedPair extends VocabularyPair {
  /** The head is stored as well: "equal" bytes, "different" ones, or not digested yet. */
  readonly stored: "no" | "equal" | "different" | "unknown";
}

/** The pair of a model that ties it; `null` where nothing is tied, or ties are not known. */
export function tiedPair(base: Base, model: ModelFacts): TiedPair | null {
  const pair = model.tiedEmbeddings ? vocabularyPair(base, model) : null;
  if (!pair) return null;
  const head = base.get(pair.head);
  if (!head) return { ...pair, stored: "no" };
  const { digest, shape, dtype } = pair.embedding;
  if (shape.join() !== head.shape.join() || dtype !== head.dtype) return { ...pair, stored: "different" };
  if (!digest || !head.digest) return { ...pair, stored: "unknown" };
  return { ...pair, stored: digest === head.digest ? "equal" : "different" };
}

/**
 * Whether a merge needs digests of the base first: a model that ties its embeddings and stores both matrices is read
 * in two ways, by whether they are equal.
 */
export function needsBaseDigests(base: Base, model: ModelFacts): boolean {
  return tiedPair(base, model)?.stored === "unknown";
}

export interface TieRequest {
  readonly targets: readonly AdapterTarget[];
  readonly base: Base;
  readonly model: ModelFacts;
  readonly ties: Recipe["ties"];
  /** What the pair starts from where the adapter carries its own copy of the shared matrix. */
  readonly start: Leaf | null;
}

export interface Settled {
  readonly targets: readonly AdapterTarget[];
  /** Fields of config.json that change. */
  readonly config: Readonly<Record<string, Json>>;
  readonly problems: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/**
 * Decides what becomes of tied embeddings. The targets say what the adapted model computes: another head than embedding
 * means that the output stores both and says `tie_word_embeddings: false`. With ties "peft" the changes of both sides
 * land in the shared matrix one after the other, as PEFT's merge does it; whole modules are untied by PEFT as well.
 */
export function settleTies(request: TieRequest): Settled {
  const { targets, base, model } = request;
  const settled = { targets, config: {}, problems: [], warnings: [] };
  if (!model.tiedEmbeddings) return settled;
  const pair = tiedPair(base, model);
  if (!pair) return { ...settled, problems: unknownTies(request), ...withOwnHead(request) };
  const embedding = targets.find(({ tensor }) => tensor === pair.embedding.name);
  const head = targets.find(({ tensor }) => tensor === pair.head);
  if (!embedding && !head)
    return { ...settled, warnings: pair.stored === "different" ? [bothStored(pair)] : [] };
  if (pair.stored === "different" || pair.stored === "unknown") {
    return { ...settled, problems: [bothStored(pair)] };
  }
  const others = targets.filter((target) => target !== embedding && target !== head);
  const shared = sharedTarget(request, { embedding, head });
  if (shared) return { ...settled, targets: [...others, ...sharedTargets(pair, shared)] };
  const sides = untied(pair, { embedding, head });
  return {
    targets: [...others, ...sides],
    config: { tie_word_embeddings: false },
    problems: [],
    warnings: [untiedWarning(pair)],
  };
}

/**
 * A head that training took out of a tie that is not stored, whatever its family calls it (`cls.predictions.decoder`,
 * `proj_out`, …): a whole module that the base lacks, as large as the embedding. Told of a tie, loaders would drop it.
 */
function withOwnHead({ targets, base, model }: TieRequest): Pick<Settled, "config" | "warnings"> | null {
  const embedding = scoresTokens(model) ? embeddingOf(base) : null;
  const shape = embedding?.shape.join();
  const head = targets.find((one) => isWhole(one) && !base.has(one.tensor) && one.shape?.join() === shape);
  if (!embedding || !head) return null;
  const pair = { embedding, head: head.tensor, stored: "no" } as const;
  return { config: { tie_word_embeddings: false }, warnings: [untiedWarning(pair)] };
}

interface Sides {
  readonly embedding: AdapterTarget | undefined;
  readonly head: AdapterTarget | undefined;
}

const isWhole = (target: AdapterTarget | undefined) => target?.change === WHOLE_MODULE;
/** What `AdapterTarget.change` says of a module that the adapter saved as a whole. */
export const WHOLE_MODULE = "whole module";

/** The one target of a matrix that stays shared; `null` where the sides part. */
function sharedTarget(
  { ties, start, base, model }: TieRequest,
  { embedding, head }: Sides,
): AdapterTarget | null {
  if (embedding && head && sameExpr(embedding.expr, head.expr)) return embedding;
  if (ties !== "peft" || isWhole(embedding) || isWhole(head)) return null;
  if (!embedding || !head) return embedding ?? head!;
  const name = tiedPair(base, model)!.embedding.name;
  const from = round(embedding.expr);
  let expr: Expr = replaceLeaf(head.expr, baseLeaf(name), from);
  if (start) expr = replaceLeaf(expr, start, from);
  return { ...embedding, module: `${embedding.module} + ${head.module}`, expr };
}

/** The embedding, and the head too where the base stores both. */
function sharedTargets(pair: TiedPair, shared: AdapterTarget): AdapterTarget[] {
  const { shape, dtype, ...rest } = shared;
  const { embedding } = pair;
  const resized =
    shape !== undefined && shape.join() !== embedding.shape.join() ? { shape, dtype: dtype! } : {};
  const one = { ...rest, ...resized, tensor: embedding.name };
  if (pair.stored === "no") return [one];
  const expr = replaceLeaf(shared.expr, baseLeaf(embedding.name), baseLeaf(pair.head));
  return [one, { ...one, tensor: pair.head, expr }];
}

function untied(pair: TiedPair, { embedding, head }: Sides): AdapterTarget[] {
  const { name, shape, dtype } = pair.embedding;
  const copy: AdapterTarget = {
    tensor: pair.head,
    module: pair.head.replace(/\.weight$/, ""),
    change: "untied copy",
    rank: null,
    alpha: null,
    scale: null,
    expr: baseLeaf(pair.stored === "no" ? name : pair.head),
    ...(pair.stored === "no" && { shape, dtype }),
  };
  if (!head) return pair.stored === "no" ? [embedding!, copy] : [embedding!];
  return embedding ? [embedding, head] : [head];
}

function untiedWarning({ embedding, head }: TiedPair): Finding {
  const bytes = embedding.end - embedding.begin;
  return {
    code: "EMBEDDINGS_UNTIED",
    subject: head,
    details: { bytes: String(bytes) },
    message:
      `the base shares one matrix between ${embedding.name} and ${head}, and the adapter changes them apart: the output stores both ` +
      `and says tie_word_embeddings: false, which keeps what the adapted model computes and costs ${bytes} bytes. ` +
      'PEFT would change both sides by both changes; ties "peft" does the same.',
  };
}

function bothStored({ embedding, head, stored }: TiedPair): Finding {
  const known = stored === "different" ? "different matrices" : "two matrices that were not compared";
  return {
    code: "TIED_PAIR_STORED_TWICE",
    subject: head,
    message:
      `config.json ties ${head} to ${embedding.name}, and the base stores both, as ${known}: some versions of transformers drop the head at load, others keep it. ` +
      "Say tie_word_embeddings: false in the base's config.json if the stored head is meant, or remove the head from the checkpoint if it is not.",
  };
}

/** `vocab_size`, where the embedding has other rows than the base's. */
export function vocabularyChange(targets: readonly AdapterTarget[], base: Base): { vocab_size?: number } {
  const embedding = embeddingOf(base);
  const rows = targets.find(({ tensor }) => tensor === embedding?.name)?.shape?.[0];
  return rows === undefined || rows === embedding!.shape[0] ? {} : { vocab_size: rows };
}

/** Refuses a change of a matrix that is tied in a way that is not known here. */
function unknownTies({ targets, model }: TieRequest): Finding[] {
  // A classifier of a family that ties its embeddings has nothing to tie.
  if (!scoresTokens(model)) return [];
  const touched = targets.filter(
    ({ tensor }) => EMBEDDING.test(tensor) || /(^|\.)(shared|lm_head)\.weight$/.test(tensor),
  );
  return touched.slice(0, 1).map(({ tensor, module }) => ({
    code: "UNSUPPORTED_TIES",
    subject: tensor,
    message: `module ${module} is tied to others (tie_word_embeddings) in a way that is not known for ${model.modelType ?? "this model"}: merge it with PEFT and import the result.`,
  }));
}
