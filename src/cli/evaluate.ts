import type { DeviceName } from "../core/devices.ts";
import { AppError } from "../core/errors.ts";
import { renderHtml } from "../core/evaluation/html.ts";
import { renderMarkdown } from "../core/evaluation/markdown.ts";
import type { EvaluationReport } from "../core/evaluation/report.ts";
import { counted } from "../core/evaluation/wording.ts";
import { evaluate } from "../engine/evaluation/evaluate.ts";
import { type LocalEvaluation, prepareEvaluation } from "../engine/evaluation/local.ts";
import { requireOutside } from "../storage/beside.ts";
import { requireWritable, writeTextFolder } from "../storage/text-folder.ts";
import { choosesRecipe } from "./choices.ts";
import { type CommandContext, numberOf, type Outcome, textOf, type Values } from "./command.ts";
import { seconds } from "./format.ts";
import { adaptersOf, choicesOf, pinsOf } from "./reference.ts";
import { reportLines } from "./report-lines.ts";

/** Exit codes beside 0, for PASSED. */
const EXIT_CODES = { FAILED: 1, INCONCLUSIVE: 3 } as const;

/** `evaluate`: does the merged model do what base and adapter do? */
export async function run({ values, engine, watch }: CommandContext): Promise<Outcome> {
  const started = performance.now();
  const output = textOf(values, "out");
  if (output !== undefined) await requireWritable(output);
  const { inputs, notices } = await watch(prepareEvaluation(await requestOf(values), engine));
  const { base, sources, candidate } = inputs;
  const read = [base, ...sources, ...(candidate ? [candidate] : [])].map(({ folder }) => folder);
  if (output !== undefined) await requireOutside(output, read);
  const found = await watch(evaluate(inputs, engine));
  const warnings = [...notices.map(({ code, message }) => ({ code, message })), ...found.warnings];
  const report: EvaluationReport = { ...found, warnings };
  const folder = output === undefined ? null : await writeTextFolder(output, filesOf(report));
  const failure = failureOf(report);
  return {
    document: report,
    lines: [
      ...reportLines(report),
      ...(folder === null ? [] : [`wrote ${folder}: ${Object.keys(filesOf(report)).join(", ")}`]),
      seconds((performance.now() - started) / 1000),
    ],
    ...(failure && { failure, exitCode: EXIT_CODES[report.verdict as keyof typeof EXIT_CODES] }),
  };
}

async function requestOf(values: Values): Promise<LocalEvaluation> {
  const path = (name: string) => textOf(values, name) ?? null;
  const options = {
    seed: numberOf(values, "seed"),
    window: numberOf(values, "window"),
    stride: numberOf(values, "stride"),
    floorTokens: numberOf(values, "floor-tokens"),
    maxNewTokens: numberOf(values, "max-new-tokens"),
    chatTemplate: values["chat-template"] === true,
  };
  return {
    base: textOf(values, "base")!,
    adapters: await adaptersOf(values),
    merged: path("merged"),
    choices: choicesOf(values),
    choicesGiven: choosesRecipe(values),
    pins: pinsOf(values),
    texts: path("texts"),
    tasks: path("tasks"),
    prompts: path("prompts"),
    gate: path("gate"),
    options: Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
    device: (textOf(values, "device") ?? "cpu") as DeviceName,
  };
}

/** The report as a program, a person and a model card read it. */
function filesOf(report: EvaluationReport): Record<string, string> {
  return {
    "report.json": `${JSON.stringify(report, null, 2)}\n`,
    "report.html": renderHtml(report),
    "report.md": renderMarkdown(report),
  };
}

function failureOf({ verdict, reasons, candidate }: EvaluationReport): AppError | null {
  if (verdict === "PASSED") return null;
  const [first] = reasons;
  const others = reasons.length > 1 ? ` And ${counted(reasons.length - 1, "more reason")}.` : "";
  const why = first ? `${first.code}: ${first.message}${others}` : "";
  return verdict === "FAILED"
    ? new AppError("EVALUATION_FAILED", `${candidate.label} is not what base and adapter are: ${why}`)
    : new AppError(
        "EVALUATION_INCONCLUSIVE",
        `nothing speaks against ${candidate.label}, but not enough is known: ${why}`,
      );
}
