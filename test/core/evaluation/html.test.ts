import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { renderHtml } from "../../../src/core/evaluation/html.ts";
import { retentionMaps } from "../../../src/core/evaluation/html-heatmap.ts";
import { html, table, tokenText, visible } from "../../../src/core/evaluation/html-markup.ts";
import { kldPlot, layerPlot } from "../../../src/core/evaluation/html-plots.ts";
import type { EvaluationReport } from "../../../src/core/evaluation/report.ts";
import { type Browser, collectComplaints, openBrowser } from "../../support/browser.ts";
import { exampleLogits, exampleReport, exampleUnjudged } from "../../support/example-report.ts";
import { requirement } from "../../support/require.ts";

const HOSTILE = `</title></style><script>window.hit=1</script><img src=x onerror="window.hit=1">'"&amp;\u202e\u0000`;

/** Every text of a report, replaced by the hostile one before it. */
function poisoned<T>(value: T, key = ""): T {
  if (typeof value === "string") {
    const fixed = [
      "verdict",
      "kind",
      "method",
      "dtype",
      "digest",
      "version",
      "weights",
      "tokenizer",
    ].includes(key);
    return (fixed || value.startsWith("sha256:") ? value : `${HOSTILE}${value}`) as T;
  }
  if (Array.isArray(value)) return value.map((entry) => poisoned(entry, key)) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([k, entry]) => [
      key === "forms" || key === "timings" ? HOSTILE + k : k,
      poisoned(entry, k),
    ]),
  ) as T;
}

function reportWithEverything(): EvaluationReport {
  return exampleReport({
    warnings: [{ code: "A_WARNING", message: "of something", subject: "a file" }],
    checks: [{ level: 0, name: "tokenizer", passed: false, detail: "another file" }],
    logits: { ...exampleLogits(), firstApart: { layer: "layer 3", why: "its error" } },
  });
}

describe("markup", () => {
  it("never comes from a value", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const { markup } = html`<p title="${text}">${[text, null, [text]]}</p>`;
        const inner = markup.slice('<p title="'.length, -"</p>".length);
        expect(inner.split('">')).toHaveLength(2);
        expect(inner.replace('">', "")).not.toMatch(/[<>"']|&(?!amp;|lt;|gt;|quot;|#39;)/);
      }),
    );
  });

  it("shows what cannot be seen or turns text around, and no broken characters", () => {
    expect(visible("a\u202eb\u0000\u200b\ud800\n\t")).toBe("a⟨U+202E⟩b⟨U+0000⟩⟨U+200B⟩\ufffd\n\t");
    expect(tokenText(" the\n")).toBe("␣the↵");
  });

  it("has tables whose cells have headers", () => {
    const { markup } = table({
      caption: "c",
      columns: [{ title: "a" }, { title: "b", numeric: true }],
      rows: [["x", 1]],
    });
    expect(markup).toContain('<th scope="col" role="columnheader" class="n">b</th>');
    expect(markup).toContain(
      '<th scope="row" role="rowheader">x</th><td role="cell" class="n" data-label="b">1</td>',
    );
  });
});

describe("plots", () => {
  const logits = exampleLogits();

  it("say in words what they show", () => {
    const kld = kldPlot(logits, 1e-3).markup;
    expect(kld).toContain(
      "Mean 1.1e-5, median 3.1e-6, 99 % below 1.4e-4, largest 8.1e-4. The noise floor has a mean of 3.4e-6",
    );
    expect(kld).toMatch(/role="img" aria-labelledby="kld-title kld-desc"/);
    expect(layerPlot(logits)!.markup).toContain("of the hidden state after 18 layers");
  });

  it.each([
    ["no floor", { floor: null, histogram: { ...logits.histogram, floor: null } }],
    [
      "predictions that are all equal",
      {
        kld: { ...logits.kld, mean: { value: 0, standardError: 0, interval: [0, 0] as [number, number] } },
        histogram: { from: -16, step: 0.25, candidate: [50, 0, 0], floor: [50, 0, 0] },
      },
    ],
    ["no predictions", { histogram: { from: -16, step: 0.25, candidate: [0, 0], floor: null } }],
    ["one layer", { layers: logits.layers.slice(3, 4) }],
  ])("hold only numbers with %s", (_, changes) => {
    const changed = { ...logits, ...changes };
    const markup =
      kldPlot(changed, null).markup + kldPlot(changed, 1e-6).markup + (layerPlot(changed)?.markup ?? "");
    expect(markup).not.toMatch(/NaN|Infinity|undefined/);
  });

  it("leave out a layer's error of 0, which has no place on a log axis, and the whole plot where all are 0", () => {
    const zero = logits.layers.map((layer) => ({ ...layer, relativeError: 0, floor: 0 }));
    expect(layerPlot({ ...logits, layers: zero })).toBeNull();
    expect(layerPlot(logits)!.markup.match(/class="dot"/g)).toHaveLength(17);
  });

  it("draw a cell for each layer and module, coloured by what arrived", () => {
    const { tensors } = exampleUnjudged().weights!;
    const { markup } = retentionMaps(tensors)!;
    expect(markup.match(/<rect[^>]*><title>/g)).toHaveLength(2 * 16 * 7);
    const dropped = tensors.map((t) =>
      t.module.includes(".3.") ? { ...t, projection: 0, relativeError: 1 } : t,
    );
    const found = [
      ...retentionMaps(dropped)!.markup.matchAll(/class="(\w+)"[^>]*><title>layer 3, ([\w.]+): ([^<]*)</g),
    ];
    expect(found.map((match) => [match[1], match[3]])).toEqual([
      ...Array(7).fill(["s7", "100 %"]),
      ...Array(7).fill(["d0", "0"]),
    ]);
  });

  it("put a layer's experts into one cell that shows the worst, and draw nothing where no layer has a number", () => {
    const [tensor] = exampleUnjudged().weights!.tensors;
    const expert = (i: number, relativeError: number) => ({
      ...tensor!,
      module: `model.layers.0.mlp.experts.${i}.w1`,
      relativeError,
    });
    const { markup } = retentionMaps([expert(0, 0.01), expert(1, 0.5), expert(2, 0.02)])!;
    expect(markup).toContain("layer 0, mlp.experts.*.w1: 50 %");
    expect(retentionMaps([{ ...tensor!, module: "lm_head" }])).toBeNull();
  });
});

describe("the page of a report", () => {
  it("shows verdict, gate, numbers, digests, and what was not measured", () => {
    const page = renderHtml(exampleReport({ tasks: null }));
    for (const part of [
      "PASSED</p>",
      "default@1",
      "1.1e-5 ± 0.2e-5",
      "3.2× the noise floor",
      "Level 4 (tasks) was not measured: no labelled set was given.",
      exampleReport().candidate.weights!,
      "model.layers.15.mlp.down_proj.weight",
      "differs from token 2 on",
    ]) {
      expect(page).toContain(part);
    }
  });

  it("says why there is no level 2, and why the verdict is what it is", () => {
    const page = renderHtml(
      exampleReport({ logits: null, logitsSkipped: "no forward pass for Mamba.", text: null }),
    );
    expect(page).toContain("LEVEL_NOT_MEASURED");
    expect(page).toContain("Level 2 (logits) was not measured: no forward pass for Mamba.");
    expect(page).not.toContain("Level 2: do both sides");
  });

  it("is the same each time, and holds no script, link or address to load from", () => {
    const page = renderHtml(exampleReport());
    expect(renderHtml(exampleReport())).toBe(page);
    expect(page).not.toMatch(/<script|<a |<iframe|<img|@import|url\(|https?:/i);
  });

  it("has the same tags whatever the texts of the report are", () => {
    const tags = (report: EvaluationReport) => {
      // Ticks of the plots depend on the names of layers.
      const page = renderHtml(report).replace(/<svg.*?<\/svg>/gs, "<svg>");
      return [...page.matchAll(/<[^>]*>/g)].map((match) => match[0].split(/[\s>]/)[0]);
    };
    const report = reportWithEverything();
    expect(renderHtml(poisoned(report))).toContain("&lt;script&gt;window.hit=1");
    expect(tags(poisoned(report))).toEqual(tags(report));
  });
});

describe.skipIf(!requirement("browser"))("the page in a browser", () => {
  let browser: Browser;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "graftwork-report-"));
    browser = await openBrowser({ viewport: { width: 390, height: 844 } });
  });
  afterAll(async () => {
    await browser.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function open(report: EvaluationReport, colorScheme: "light" | "dark") {
    const file = join(folder, "report.html");
    await writeFile(file, renderHtml(report));
    const page = await browser.context.newPage();
    await page.emulateMedia({ colorScheme });
    const complaints = collectComplaints(page);
    const requests: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    return { page, complaints, requests };
  }

  it("asks for nothing, fits a phone, and follows light and dark", async () => {
    const backgrounds: string[] = [];
    for (const scheme of ["light", "dark"] as const) {
      const { page, complaints, requests } = await open(exampleReport(), scheme);
      expect(requests.filter((url) => !url.startsWith("file:") && !url.startsWith("data:"))).toEqual([]);
      expect(requests.filter((url) => url.startsWith("file:"))).toHaveLength(1);
      expect(complaints).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
      backgrounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      await page.close();
    }
    expect(backgrounds[0]).not.toBe(backgrounds[1]);
  });

  it("takes hostile names and texts for text", async () => {
    const { page, complaints } = await open(poisoned(reportWithEverything()), "light");
    const found = await page.evaluate(() => ({
      hit: "hit" in window,
      elements: document.querySelectorAll("script, img, iframe, a, form").length,
      titles: document.querySelectorAll("head > title").length,
      wide: document.documentElement.scrollWidth,
    }));
    expect(found).toEqual({ hit: false, elements: 0, titles: 1, wide: 390 });
    expect(complaints).toEqual([]);
    await page.close();
  });
});
