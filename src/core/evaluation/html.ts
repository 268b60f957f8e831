import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { type Html, type HtmlValue, html, table } from "./html-markup.ts";
import {
  checksSection,
  gateSection,
  logitsSection,
  tasksSection,
  textSection,
  weightsSection,
} from "./html-sections.ts";
import { STYLE } from "./html-style.ts";
import { notMeasured } from "./not-measured.ts";
import type { EvaluationReport } from "./report.ts";
import { counted, figure, grouped, VERDICT_SIGNS } from "./wording.ts";

/**
 * A report as one page that needs nothing else: no script, no request, its one stylesheet inline, plots as SVG. Its own
 * Content-Security-Policy allows that stylesheet and nothing more. All names and texts are escaped.
 */
export function renderHtml(report: EvaluationReport): string {
  const title = `Evaluation of ${report.candidate.label}: ${report.verdict}`;
  const hash = btoa(String.fromCharCode(...sha256(utf8ToBytes(STYLE))));
  const policy = `default-src 'none'; img-src data:; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
  const head = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${title}</title>
`;
  const body = html`</head>
<body>
<main>
${summary(report)}
${silence(report)}
${gateSection(report)}
${checksSection(report)}
${weightsSection(report)}
${logitsSection(report)}
${textSection(report)}
${tasksSection(report)}
${provenance(report)}
</main>
</body>
</html>
`;
  // The stylesheet is a constant and the one text that must not be escaped: its hash is taken of these very bytes.
  return `${head.markup}<style>${STYLE}</style>\n${body.markup}`;
}

function summary(report: EvaluationReport): Html {
  const { verdict, reasons, warnings, candidate, reference, gate } = report;
  const adapters = reference.sources.map(
    ({ label, weight }, i) =>
      html`${i === 0 ? "" : ", "}<strong>${label}</strong>${weight === 1 ? "" : ` × ${figure(weight)}`}`,
  );
  const told = reasons.map(
    ({ code, level, message, subject }) =>
      html`<li><span class="code">${code}</span> <span class="soft">level ${level}${subject === null ? "" : `, ${subject}`}</span><br>${message}</li>`,
  );
  const warned = warnings.map(
    ({ code, message }) => html`<li><span class="code">${code}</span> ${message}</li>`,
  );
  return html`<header>
<h1>Does <strong>${candidate.label}</strong> do what ${adapters} on <strong>${reference.base.label}</strong> does?</h1>
<p class="verdict ${verdict}"><span aria-hidden="true">${VERDICT_SIGNS[verdict]}</span>${verdict}</p>
<p>Under the gate ${gate.name}@${gate.version}. ${verdict === "PASSED" ? "Nothing speaks against it." : ""}</p>
${told.length > 0 ? html`<h2>Why</h2><ul>${told}</ul>` : null}
${warned.length > 0 ? html`<h2>Warnings</h2><ul>${warned}</ul>` : null}
</header>`;
}

function silence(report: EvaluationReport): Html | null {
  const items = notMeasured(report).map(({ message }) => html`<li>${message}</li>`);
  return items.length === 0 ? null : html`<section><h2>Not measured</h2><ul>${items}</ul></section>`;
}

/** What was compared, over which texts, and where: enough to do it again. */
function provenance(report: EvaluationReport): Html {
  const { reference, candidate, texts, tasks, environment: e, timings } = report;
  const code = (digest: string | null) => (digest === null ? "not known" : html`<code>${digest}</code>`);
  const row = (side: string, input: typeof reference.base): HtmlValue[] => [
    side,
    input.label,
    html`version ${code(input.version)}<br>weights ${code(input.weights)}`,
  ];
  const inputs = [
    row("base", reference.base),
    ...reference.sources.map((source) => row(`adapter, weight ${figure(source.weight)}`, source)),
    row(`candidate (${candidate.kind})`, candidate),
  ];
  const forms = Object.entries(reference.forms).map(
    ([form, count]) => `${counted(count, "tensor")} as ${form}`,
  );
  const facts: [string, HtmlValue][] = [
    ["reference", `${forms.join(", ") || "no adapted tensors"}; ${reference.note}`],
    ["recipe", code(report.recipeDigest)],
    ["gate", html`${report.gate.name}@${report.gate.version} ${code(report.gateDigest)}`],
    ...(texts
      ? ([
          [
            "texts",
            html`${texts.name}, ${counted(texts.documents, "document")}, ${counted(texts.tokens, "token")} ${code(texts.digest)}`,
          ],
          [
            "tokenizer",
            html`${code(texts.tokenizer)} ${texts.specialTokens ? "with" : "without"} special tokens, ${texts.chatTemplate ? "with" : "without"} the chat template`,
          ],
          ["window", `${counted(texts.window, "token")}, moved by ${grouped(texts.stride)}`],
        ] as [string, HtmlValue][])
      : []),
    ...(tasks ? ([["tasks", html`${tasks.name} ${code(tasks.digest)}`]] as [string, HtmlValue][]) : []),
    ["seed", report.seed],
    ["made by", `Graftwork ${e.graftwork}, ${e.runtime}, Node ${e.node}`],
    ["on", `${e.device} (${e.provider}), ${e.processor}, ${e.platform}, ${counted(e.threads, "thread")}`],
    [
      "time",
      Object.entries(timings)
        .map(([stage, ms]) => `${stage} ${figure(Math.round(ms / 100) / 10)} s`)
        .join(", "),
    ],
  ];
  return html`<section><h2>What was compared</h2>
${table({ caption: "Both sides, with the digests of their bytes", columns: [{ title: "side" }, { title: "name" }, { title: "digests" }], rows: inputs })}
<dl>${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl></section>`;
}
