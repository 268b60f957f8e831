import { AppError } from "../../core/errors.ts";
import type { EvaluationReport, Reason } from "../../core/evaluation/report.ts";
import { tokenizerDifferences } from "../../core/evaluation/tokenizer-diff.ts";
import { canonicalJson } from "../../core/identity.ts";
import { parseJsonObject, TOKENIZER_JSON } from "../../core/json.ts";
import type { MergePlan } from "../../core/plan.ts";
import { digestFile } from "../../storage/file.ts";
import { readText } from "../../storage/folder.ts";
import type { Located } from "../events.ts";
import { chosenFiles, ownFiles, readTokenizerFiles, type TokenizerPaths } from "./tokenizer-files.ts";

export interface TokenizerInput {
  readonly base: Located;
  readonly sources: readonly Located[];
  /** `null`: what the recipe would write, whose tokenizer is the recipe's. */
  readonly candidate: Located | null;
}

/**
 * Where the files of the tokenizer lie that both sides use: the one that merging takes along. Of several adapters it is
 * the base's, unless one of them brings its own.
 * @param plans one for each source
 */
export function recipeTokenizer(
  { base, sources }: Pick<TokenizerInput, "base" | "sources">,
  plans: readonly MergePlan[],
): TokenizerPaths {
  const at = Math.max(
    0,
    plans.findIndex(({ tokenizer }) => tokenizer.from === "adapter"),
  );
  return chosenFiles(plans[at]!.tokenizer, { base, adapter: sources[at] ?? null });
}

export interface TokenizerFindings {
  readonly reasons: readonly Reason[];
  readonly checks: EvaluationReport["checks"];
}

/**
 * Level 0: whether the candidate ships the recipe's tokenizer and chat template. A candidate without any tokenizer file
 * (PEFT and transformers save a model without one) is told of, and no failure: nothing in it is wrong.
 */
export async function tokenizerReasons(
  input: TokenizerInput,
  plans: readonly MergePlan[],
): Promise<TokenizerFindings> {
  if (input.candidate === null) return passed("the recipe's own");
  const theirs = ownFiles(input.candidate);
  if (!input.candidate.facts.files.some(({ role }) => role === "TOKENIZER")) {
    return passed("the candidate ships no tokenizer: copy the recipe's into its folder before serving it");
  }
  const ours = recipeTokenizer(input, plans);
  if (ours.size === 0) return passed("the recipe has no tokenizer to compare with");
  const unclear = await whyUnclear(ours);
  if (unclear !== null) return passed(`not compared, because the recipe's own is not understood: ${unclear}`);
  const reasons = [...(await contentsDiffer(ours, theirs)), ...(await otherFilesDiffer(ours, theirs))];
  if (reasons.length === 0)
    return passed("vocabulary, added tokens, chain and chat template are the recipe's");
  const detail = reasons.map(({ message }) => message).join(" ");
  return { reasons, checks: [{ level: 0, name: "tokenizer", passed: false, detail }] };
}

function passed(detail: string): TokenizerFindings {
  return { reasons: [], checks: [{ level: 0, name: "tokenizer", passed: true, detail }] };
}

/** What is wrong with the recipe's own tokenizer, for which no candidate is to blame; `null`: nothing. */
async function whyUnclear(ours: TokenizerPaths): Promise<string | null> {
  try {
    const reference = await readTokenizerFiles(ours);
    if (reference.json.has("tokenizer.json")) tokenizerDifferences(reference, reference);
    return null;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return error.message;
  }
}

async function contentsDiffer(ours: TokenizerPaths, theirs: TokenizerPaths): Promise<Reason[]> {
  const [has, candidateHas] = [ours.has("tokenizer.json"), theirs.has("tokenizer.json")];
  if (!has) return [];
  if (!candidateHas) {
    return [differs("tokenizer.json", "it is missing, while other tokenizer files are there")];
  }
  const reference = await readTokenizerFiles(ours);
  try {
    return tokenizerDifferences(reference, await readTokenizerFiles(theirs));
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return [differs("tokenizer.json", error.message.replace(/\.$/, ""))];
  }
}

/** Files of slow tokenizers, which other programs read: where both have one. */
const OTHER_FILES = [
  "tokenizer.model",
  "spiece.model",
  "sentencepiece.bpe.model",
  "vocab.json",
  "vocab.txt",
  "merges.txt",
];

async function otherFilesDiffer(ours: TokenizerPaths, theirs: TokenizerPaths): Promise<Reason[]> {
  const reasons: Reason[] = [];
  for (const name of OTHER_FILES) {
    const [path, other] = [ours.get(name), theirs.get(name)];
    if (path === undefined || other === undefined) continue;
    if (!(await sameFile(name, path, other))) reasons.push(differs(name, "its contents are others"));
  }
  return reasons;
}

async function sameFile(name: string, path: string, other: string): Promise<boolean> {
  if ((await digestFile(path)) === (await digestFile(other))) return true;
  if (!name.endsWith(".json")) return false;
  const plain = async (file: string) =>
    canonicalJson(parseJsonObject(await readText(file), file, TOKENIZER_JSON));
  return (await plain(path)) === (await plain(other));
}

function differs(file: string, what: string): Reason {
  return {
    code: "TOKENIZER_DIFFERS",
    level: 0,
    message: `the candidate's ${file} is not the recipe's: ${what}. Copy the tokenizer files of the recipe into the merged folder.`,
    subject: file,
    value: null,
    threshold: null,
  };
}
