import { retentionMaps } from "./html-heatmap.ts";
import { clipped, clippedStart, type Html, type HtmlValue, html, table, tokenText } from "./html-markup.ts";
import { kldPlot, layerPlot } from "./html-plots.ts";
import { numbersOf } from "./numbers.ts";
import type { EvaluationReport, LogitsReport, TensorRetention, TextReport } from "./report.ts";
import {
  boundsOf,
  counted,
  effectSentence,
  figure,
  figureWithError,
  grouped,
  intervalText,
  metricText,
  percent,
  percentWithError,
  timesFloorText,
} from "./wording.ts";

/* The parts of a report's page, one for each level. */

/** Rows of a table beyond which a page would be slow to read and to open; the JSON has all of them. */
const MOST_ROWS = 2000;
const MOST_PROMPTS = 100;
/** Characters of a continuation, and of the context before a prediction. */
const MOST_TEXT = 4000;
const MOST_CONTEXT = 240;

const numeric = (title: string) => ({ title, numeric: true });

function outcome(passed: boolean): Html {
  return passed ? html`<span class="ok">✓ passed</span>` : html`<span class="no">✗ failed</span>`;
}

/** Every threshold of the gate for the candidate's dtype, with what was found. */
export function gateSection(report: EvaluationReport): Html {
  const { gate, candidate } = report;
  const numbers = new Map(numbersOf(report).map((number) => [number.key, number]));
  const rows = boundsOf(gate.thresholds[candidate.dtype]).map(({ key, label, asks }) => {
    const number = numbers.get(key === "accuracyDrop" ? "accuracyDifference" : key);
    if (!number) return [label, "not measured", "–", asks];
    return [label, metricText(number.metric, number.form), intervalText(number.metric, number.form), asks];
  });
  return html`<section><h2>Against the gate</h2>
<p>Gate <strong>${gate.name}@${gate.version}</strong> for a candidate stored in ${candidate.dtype}. ${gate.description}</p>
${table({ caption: "Thresholds of the gate and what was found", columns: [{ title: "number" }, numeric("found"), numeric("95 % interval"), { title: "the gate asks for" }], rows })}
<p class="soft">It asks for ${counted(gate.minimumDocuments, "document")} or more${gate.requires.length > 0 ? `, and for level ${gate.requires.join(", ")} to be measured` : ""}.</p>
${gate.calibration === null ? null : html`<details><summary>How these thresholds were found</summary><p>${gate.calibration}</p></details>`}
</section>`;
}

export function checksSection({ checks }: EvaluationReport): Html {
  const rows = checks.map(({ level, name, passed, detail }) => [name, level, outcome(passed), detail]);
  return html`<section><h2>Structure and weights: checks</h2>
${table({ caption: "Checks of levels 0 and 1", columns: [{ title: "check" }, numeric("level"), { title: "outcome" }, { title: "found" }], rows })}</section>`;
}

export function weightsSection({ weights, candidate }: EvaluationReport): Html | null {
  if (!weights) return null;
  const { relativeError, projection, moved, touched, untouched, tensors } = weights;
  const arrived =
    relativeError === null || projection === null
      ? "How much of the change arrived cannot be told."
      : `The change as it is stored is off by ${percent(relativeError)} of itself and has a projection of ${figure(projection)} on the exact one: 1 where it arrived as a whole, however roughly.`;
  return html`<section><h2>Level 1: what the weights kept of the change</h2>
<p>${counted(touched, "tensor")} touched, ${grouped(untouched)} left alone. ${arrived} ${percent(moved)} of the touched weights moved at all; the rest of the change was rounded away in ${candidate.dtype}.</p>
${retentionMaps(tensors)}
<details><summary>Every touched tensor (${grouped(tensors.length)})</summary>
${tensorTable(tensors)}</details></section>`;
}

function tensorTable(tensors: readonly TensorRetention[]): Html {
  const optional = (value: number | null, write: (value: number) => string) =>
    value === null ? "–" : write(value);
  const rows = tensors
    .slice(0, MOST_ROWS)
    .map((t): HtmlValue[] => [
      html`<span class="name">${t.tensor}</span>`,
      t.change,
      t.dtype,
      grouped(t.elements),
      t.weightNorm === 0 ? "–" : figure(t.deltaNorm / t.weightNorm),
      optional(t.relativeError, (value) => percent(value)),
      optional(t.projection, figure),
      percent(t.moved),
      optional(t.differing, grouped),
      optional(t.maxUlp, figure),
      figure(t.maxError),
      grouped(t.nonFinite),
    ]);
  const columns = [
    { title: "tensor" },
    { title: "change" },
    { title: "dtype" },
    ...[
      "elements",
      "‖Δ‖ / ‖W‖",
      "error",
      "projection",
      "moved",
      "not canonical",
      "ulp",
      "largest error",
      "not finite",
    ].map(numeric),
  ];
  return html`${table({ caption: "Retention of the change, tensor by tensor", columns, rows, scrolls: true })}${rest(tensors.length, MOST_ROWS, "tensors")}`;
}

function rest(count: number, shown: number, what: string): Html | null {
  return count > shown
    ? html`<p class="soft">${grouped(count - shown)} more ${what} are in the report's JSON.</p>`
    : null;
}

export function logitsSection(report: EvaluationReport): Html | null {
  const { logits, gate, candidate } = report;
  if (!logits) return null;
  const times = timesFloorText(logits);
  const apart = logits.firstApart;
  const floor = logits.floor
    ? html`<p>Noise floor: ${logits.floor.how}, over ${counted(logits.floor.predictions, "prediction")}. Mean KLD ${figure(logits.floor.meanKld)}, 99 % below ${figure(logits.floor.p99)}, same most likely token for ${percent(logits.floor.sameTop)}. What is not above it is noise.</p>`
    : null;
  return html`<section><h2>Level 2: do both sides predict the same?</h2>
<p>${counted(logits.predictions, "prediction")} in ${counted(logits.documents, "document")}. Mean KLD ${figureWithError(logits.kld.mean)} nats${times === null ? "" : `, ${times}`}.${apart ? ` The two sides part at ${apart.layer}: ${apart.why}.` : ""}</p>
${floor}
${effectParagraph(logits)}
<div class="plots">${kldPlot(logits, gate.thresholds[candidate.dtype].meanKld)}${layerPlot(logits)}</div>
${numbersTable(report)}
${logits.layers.length > 0 ? layerTable(logits) : null}
${worstTable(logits)}</section>`;
}

function numbersTable(report: EvaluationReport): Html {
  const rows = numbersOf(report)
    .filter(({ level }) => level === 2)
    .map(({ label, form, metric }) => [label, metricText(metric, form), intervalText(metric, form)]);
  const { deltaP } = report.logits!;
  const spread = deltaP
    ? html`<p class="soft">Δp of the text's token: 1 % ${figure(deltaP.percentiles.p1)}, 5 % ${figure(deltaP.percentiles.p5)}, 25 % ${figure(deltaP.percentiles.p25)}, 50 % ${figure(deltaP.percentiles.p50)}, 75 % ${figure(deltaP.percentiles.p75)}, 95 % ${figure(deltaP.percentiles.p95)}, 99 % ${figure(deltaP.percentiles.p99)}.</p>`
    : null;
  return html`${table({ caption: "Numbers of level 2, means with their standard error over documents", columns: [{ title: "number" }, numeric("value"), numeric("95 % interval")], rows })}${spread}`;
}

function layerTable({ layers }: LogitsReport): Html {
  const rows = layers.map(({ name, relativeError, maxAbs, floor }) => [
    name,
    relativeError === null ? "not finite" : figure(relativeError),
    floor === null ? "–" : figure(floor),
    figure(maxAbs),
  ]);
  return html`<details><summary>Every layer (${grouped(layers.length)})</summary>
${table({ caption: "Error of the hidden state after each layer", columns: [{ title: "after" }, numeric("relative error"), numeric("noise floor"), numeric("largest difference")], rows, scrolls: true })}</details>`;
}

function worstTable({ worst }: LogitsReport): Html | null {
  if (worst.length === 0) return null;
  const share = (value: number | null) => (value === null ? "–" : percent(value));
  const token = (text: string | null) => (text === null ? "–" : html`<code>${tokenText(text)}</code>`);
  const rows = worst.map((w): HtmlValue[] => [
    html`${w.document}, ${w.position}`,
    figure(w.kld),
    html`<span class="wide">${clippedStart(w.context, MOST_CONTEXT)}</span>`,
    token(w.token),
    html`${share(w.probabilityReference)}<br>${share(w.probabilityCandidate)}`,
    html`${token(w.topReference)}<br>${token(w.topCandidate)}`,
  ]);
  const columns = [
    { title: "document, position" },
    numeric("KLD"),
    { title: "text before it" },
    { title: "next token" },
    numeric("its p, both sides"),
    { title: "most likely, both sides" },
  ];
  return html`<h3>Where they differ most</h3>${table({ caption: "Predictions with the largest KLD; documents and positions are counted from 0, and the reference stands above the candidate", columns, rows })}`;
}

export function textSection({ text }: EvaluationReport): Html | null {
  if (!text) return null;
  const prompts = text.prompts.slice(0, MOST_PROMPTS).map(promptBlock);
  return html`<section><h2>Level 3: would a user notice?</h2>
<p>${counted(text.prompts.length, "prompt")}, greedy continuations of at most ${counted(text.maxNewTokens, "token")}: ${percentWithError(text.exactMatch)} are the same token by token.</p>
${prompts}${rest(text.prompts.length, MOST_PROMPTS, "prompts")}</section>`;
}

function promptBlock(entry: TextReport["prompts"][number], i: number): Html {
  const { prompt, reference, candidate, firstDivergence } = entry;
  const same = firstDivergence === null;
  const common = commonStart(reference, candidate);
  const side = (name: string, text: string) => {
    const shown = clipped(text, MOST_TEXT);
    const tail = shown.slice(common);
    const marked = same || tail === "" ? shown : html`${shown.slice(0, common)}<mark>${tail}</mark>`;
    return html`<div><h4>${name}</h4><pre>${marked}</pre></div>`;
  };
  const words = same
    ? html`<span class="ok">✓ the same</span>`
    : html`<span class="no">✗ differs from token ${firstDivergence} on</span>`;
  return html`<article class="prompt"><h3>Prompt ${i + 1} ${words}</h3><pre>${clipped(prompt, MOST_TEXT)}</pre>
<div class="sides">${side("reference", reference)}${side("candidate", candidate)}</div></article>
`;
}

/** How many characters two texts begin with in common; never half of a surrogate pair. */
function commonStart(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  const last = a.charCodeAt(length - 1);
  return last >= 0xd800 && last < 0xdc00 ? length - 1 : length;
}

export function tasksSection({ tasks }: EvaluationReport): Html | null {
  if (!tasks) return null;
  const rows: HtmlValue[][] = [
    ["reference right", grouped(tasks.bothRight), grouped(tasks.onlyReference)],
    ["reference wrong", grouped(tasks.onlyCandidate), grouped(tasks.neither)],
  ];
  const { method, statistic, p } = tasks.mcnemar;
  const named = method === "exact" ? "exact" : `χ² = ${figure(statistic)}`;
  return html`<section><h2>Level 4: does the score hold?</h2>
<p>${tasks.name}, ${counted(tasks.examples, "example")}; an answer is right where ${tasks.rule}. Accuracy ${percentWithError(tasks.reference)} of the reference and ${percentWithError(tasks.candidate)} of the candidate, difference ${percentWithError(tasks.difference)} (95 %: ${intervalText(tasks.difference, "share")}). Paired McNemar test (${named}): p = ${figure(p)}.</p>
${table({ caption: "Examples by which side answered right", columns: [{ title: "answers" }, numeric("candidate right"), numeric("candidate wrong")], rows })}</section>`;
}

function effectParagraph({ effect }: NonNullable<EvaluationReport["logits"]>) {
  const sentence = effectSentence(effect);
  return sentence === null ? null : html`<p>${sentence}</p>`;
}
