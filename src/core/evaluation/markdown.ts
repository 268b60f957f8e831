import { visible } from "./html-markup.ts";
import { notMeasured } from "./not-measured.ts";
import { numbersOf } from "./numbers.ts";
import type { EvaluationReport } from "./report.ts";
import {
  boundsOf,
  counted,
  effectSentence,
  figure,
  intervalText,
  metricText,
  percent,
  timesFloorText,
  VERDICT_SIGNS,
} from "./wording.ts";

/** Numbers that a card shows although no gate may ask for them. */
const ALSO = ["relativeError", "moved", "perplexityRatio", "exactMatch", "accuracyDifference"];
/** Reasons and warnings beyond which a card points to the report. */
const MOST_ITEMS = 12;

/**
 * A summary for a model card, in GitHub's Markdown: the verdict and its reasons, a table of numbers with what the gate
 * asks for, what was not measured, and the digests of what was compared. Names and texts cannot become markup or links.
 */
export function renderMarkdown(report: EvaluationReport): string {
  const { verdict, reasons, warnings, candidate, reference, gate } = report;
  const sources = reference.sources.map(
    ({ label, weight }) => `${codeSpan(label)}${weight === 1 ? "" : ` × ${figure(weight)}`}`,
  );
  const parts = [
    `### Parity: ${VERDICT_SIGNS[verdict]} ${verdict}`,
    `${codeSpan(candidate.label)} against ${sources.join(" + ")} on ${codeSpan(reference.base.label)}, un-merged, under the gate ${codeSpan(`${gate.name}@${gate.version}`)} for ${candidate.dtype}.`,
    list(reasons.map(({ code, message }) => `**${escapeMarkdown(code)}**: ${escapeMarkdown(message)}`)),
    list(
      warnings.map(({ code, message }) => `Warning **${escapeMarkdown(code)}**: ${escapeMarkdown(message)}`),
    ),
    numbersTable(report),
    floorLine(report),
    effectLine(report),
    titled(
      "Not measured:",
      notMeasured(report).map(({ message }) => escapeMarkdown(message)),
    ),
    titled("What was compared:", digestLines(report)),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function list(items: readonly string[]): string {
  const shown = items.slice(0, MOST_ITEMS).map((item) => `- ${item}`);
  if (items.length > MOST_ITEMS) shown.push(`- ${items.length - MOST_ITEMS} more in the report`);
  return shown.join("\n");
}

function titled(title: string, items: readonly string[]): string {
  return items.length === 0 ? "" : `${title}\n\n${list(items)}`;
}

function numbersTable(report: EvaluationReport): string {
  const bounds = boundsOf(report.gate.thresholds[report.candidate.dtype]);
  const asks = new Map(
    bounds.map(({ key, asks }) => [key === "accuracyDrop" ? "accuracyDifference" : key, asks] as const),
  );
  const numbers = numbersOf(report).filter(({ key }) => asks.has(key as never) || ALSO.includes(key));
  const rows = numbers.map(({ key, level, label, form, metric }) => {
    return [
      String(level),
      label,
      metricText(metric, form),
      intervalText(metric, form),
      asks.get(key as never) ?? "",
    ];
  });
  const measured = new Set(numbers.map(({ key }) => key));
  for (const { key, label, asks } of bounds) {
    if (!measured.has(key === "accuracyDrop" ? "accuracyDifference" : key))
      rows.push(["", label, "not measured", "–", asks]);
  }
  const lines = rows.map((cells) => `| ${cells.map(escapeMarkdown).join(" | ")} |`);
  return ["| level | number | found | 95 % interval | gate |", "|---|---|---|---|---|", ...lines].join("\n");
}

function effectLine({ logits }: EvaluationReport): string {
  const sentence = effectSentence(logits?.effect ?? null);
  return sentence === null ? "" : escapeMarkdown(sentence);
}

function floorLine({ logits }: EvaluationReport): string {
  if (!logits?.floor) return "";
  const times = timesFloorText(logits);
  return escapeMarkdown(
    `Noise floor: mean KLD ${figure(logits.floor.meanKld)} nats, same most likely token for ${percent(logits.floor.sameTop)} ` +
      `(${logits.floor.how}).${times === null ? "" : ` The candidate's mean KLD: ${times}.`}`,
  );
}

function digestLines(report: EvaluationReport): string[] {
  const { candidate, reference, texts, environment: e } = report;
  const digest = (input: { version: string | null; weights: string | null }) =>
    input.version !== null
      ? codeSpan(input.version)
      : input.weights !== null
        ? `weights ${codeSpan(input.weights)}`
        : "not known";
  return [
    `Candidate: ${digest(candidate)}`,
    `Base: ${digest(reference.base)}`,
    ...reference.sources.map((source) => `Adapter ${codeSpan(source.label)}: ${digest(source)}`),
    ...(texts
      ? [
          `Texts: ${codeSpan(texts.name)}, ${counted(texts.documents, "document")}, ${counted(texts.tokens, "token")}, ${codeSpan(texts.digest)}`,
        ]
      : []),
    `Gate: ${codeSpan(report.gateDigest)}`,
    `Seed ${report.seed}, on ${escapeMarkdown(`${e.device} (${e.provider}), Graftwork ${e.graftwork}, ${e.runtime}`)}`,
  ];
}

/**
 * Text in which nothing is markup, wherever it stands in a line or a table's cell: what Markdown, GitHub's additions or
 * HTML give a meaning to is escaped, line breaks are spaces, and what would be linked or mentioned by itself is broken by
 * a word joiner.
 */
export function escapeMarkdown(text: string): string {
  return visible(flat(text))
    .replace(/[\\`*_{}[\]|~$]/g, "\\$&")
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/^(\s*)([-+#=]|\d+(?=[.)](?:\s|$)))/, (_, space: string, mark: string) =>
      /\d/.test(mark) ? `${space}${mark}\u2060` : `${space}\\${mark}`,
    )
    .replace(/:\/\/|@|www\./gi, (found) => `${found[0]}\u2060${found.slice(1)}`);
}

/** Inline code, for anywhere but a table: its fence is longer than any run of backticks in it. */
export function codeSpan(text: string): string {
  const clean = visible(flat(text));
  const longest = Math.max(0, ...[...clean.matchAll(/`+/g)].map((run) => run[0].length));
  const fence = "`".repeat(longest + 1);
  const pad = clean === "" || /^[` ]|[` ]$/.test(clean) ? " " : "";
  return `${fence}${pad}${clean}${pad}${fence}`;
}

function flat(text: string): string {
  return text.replace(/\s+/g, " ");
}
