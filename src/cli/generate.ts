import { basename } from "node:path";
import type { DeviceName } from "../core/devices.ts";
import type { Finding } from "../core/errors.ts";
import { parseOptions } from "../core/evaluation/options.ts";
import { parsePrompts } from "../core/evaluation/texts.ts";
import { type Continuation, continueGreedily, GrowingText } from "../engine/evaluation/greedy.ts";
import { locateMerged, locateReference } from "../engine/evaluation/local.ts";
import { type RunnableModel, runnableCheckpoint, runnableModel } from "../engine/evaluation/model-sides.ts";
import { TextTokenizer } from "../engine/evaluation/tokenizer.ts";
import type { EngineOptions } from "../engine/events.ts";
import { readText } from "../storage/folder.ts";
import { type CommandContext, numberOf, type Outcome, textOf, textsOf, type Values } from "./command.ts";
import { adaptersOf } from "./reference.ts";
import { findingLines } from "./request.ts";

const MAX_NEW_TOKENS = 128;

interface Side extends RunnableModel {
  /** "base", "base + adapter", "merged". */
  readonly name: string;
  readonly notices: readonly Finding[];
}

/** `generate`: greedy continuations by one side or by both. */
export async function run(context: CommandContext): Promise<Outcome> {
  const { values, engine, watch, stream } = context;
  const prompts = await promptsOf(values);
  const maxNewTokens = numberOf(values, "max-new-tokens") ?? MAX_NEW_TOKENS;
  parseOptions({ prompts, maxNewTokens });
  const sides = await sidesOf(context, engine);
  const tokenizer = await TextTokenizer.open(sides[0]!.tokenizer);
  // Both sides at once, or several texts, could not be told apart on one stream.
  const growing =
    prompts.length === 1 && sides.length === 1 && !values.json ? new GrowingText(tokenizer) : null;
  const told = (next: readonly (readonly (number | null)[])[]) => {
    const id = next[0]![0];
    if (growing && id !== null && id !== undefined) stream(growing.add(id));
  };
  const chat = values.chat === true;
  const device = (textOf(values, "device") ?? "cpu") as DeviceName;
  const texts = await watch(
    continueGreedily(
      { sides: sides.map(({ side }) => side), tokenizer, prompts, chat, maxNewTokens, device, told },
      engine,
    ),
  );
  if (growing) stream(`${growing.rest()}\n`);
  const answers = answersOf(prompts, { sides, texts });
  const warnings = sides.flatMap(({ notices }) => notices);
  const equal = sides.length === 1 ? null : answers.every((answer) => answer.equal);
  return {
    document: {
      sides: sides.map(({ name }) => name),
      prompts: answers,
      equal,
      maxNewTokens,
      chat,
      device,
      warnings,
      peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    },
    lines: [
      ...(growing ? [] : answers.flatMap((answer) => answerLines(answer, sides))),
      ...findingLines("warning", warnings),
      ...(equal === null ? [] : [equalLine(answers)]),
    ],
  };
}

async function promptsOf(values: Values): Promise<readonly string[]> {
  const path = textOf(values, "prompts");
  return path === undefined ? textsOf(values, "prompt") : parsePrompts(basename(path), await readText(path));
}

async function sidesOf({ values, watch }: CommandContext, engine: EngineOptions): Promise<Side[]> {
  const [base, merged] = [textOf(values, "base"), textOf(values, "merged")];
  const sides: Side[] = [];
  if (base !== undefined) {
    const adapters = await adaptersOf(values);
    const found = await watch(locateReference({ base, adapters }, engine));
    const name = ["base", ...(adapters.length === 0 ? [] : ["adapter"])].join(" + ");
    sides.push({ ...runnableModel(found), name, notices: found.notices });
  }
  if (merged !== undefined) {
    const found = await locateMerged(merged, engine);
    sides.push({ ...runnableCheckpoint(found, "merged"), name: "merged", notices: found.notices });
  }
  return sides;
}

interface Answer {
  readonly prompt: string;
  /** By side. */
  readonly answers: readonly Continuation[];
  readonly equal: boolean;
}

function answersOf(
  prompts: readonly string[],
  { sides, texts }: { sides: readonly Side[]; texts: readonly (readonly Continuation[])[] },
): Answer[] {
  return prompts.map((prompt, i) => {
    const answers = sides.map((_, side) => texts[side]![i]!);
    const [first] = answers;
    const equal = answers.every(
      ({ tokens }) =>
        tokens.length === first!.tokens.length && tokens.every((id, at) => id === first!.tokens[at]),
    );
    return { prompt, answers, equal };
  });
}

function answerLines({ prompt, answers, equal }: Answer, sides: readonly Side[]): string[] {
  const indented = (text: string) => text.replaceAll("\n", "\n    ");
  return [
    `prompt: ${indented(prompt)}`,
    ...answers.map(({ text, ended }, side) => `  ${sides[side]!.name}:${indented(text)}${ended ? "" : " …"}`),
    ...(answers.length > 1 ? [`  ${equal ? "equal" : "DIFFERENT"}`] : []),
  ];
}

function equalLine(answers: readonly Answer[]): string {
  const same = answers.filter(({ equal }) => equal).length;
  return `${same} of ${answers.length} continuations are the same token by token`;
}
