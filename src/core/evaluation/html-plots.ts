import { type Html, html } from "./html-markup.ts";
import type { LogitsReport } from "./report.ts";
import { figure, percent } from "./wording.ts";

/*
 * Plots as inline SVG. All are 400 units wide and at most 560 px on the screen, so that their 11-unit letters can be read
 * on a phone too. Colours are classes of the page's stylesheet, which knows light and dark.
 */

const WIDTH = 400;
const HEIGHT = 230;
const LEFT = 46;
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 36;

interface Scale {
  readonly x: (value: number) => number;
  readonly y: (value: number) => number;
}

function scaleOf(x: readonly [number, number], y: readonly [number, number]): Scale {
  return {
    x: (value) => rounded(LEFT + ((value - x[0]) / (x[1] - x[0])) * (WIDTH - LEFT - RIGHT)),
    y: (value) => rounded(HEIGHT - BOTTOM - ((value - y[0]) / (y[1] - y[0])) * (HEIGHT - TOP - BOTTOM)),
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Whole numbers from one to another, so few that their labels do not touch. */
function ticks(from: number, to: number, most: number): number[] {
  const first = Math.ceil(from);
  const step = Math.max(1, Math.ceil((Math.floor(to) - first) / most));
  return Array.from({ length: Math.max(0, Math.floor((to - first) / step) + 1) }, (_, i) => first + i * step);
}

/** Up to five steps of 1, 2 or 5 times a power of ten. */
function shareTicks(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(most / 5));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => most / size <= 5) ?? most;
  return Array.from({ length: Math.floor(most / step) }, (_, i) => (i + 1) * step);
}

interface Drawing {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly content: readonly Html[];
  readonly xLabel: string;
}

function drawing({ id, title, description, content, xLabel }: Drawing): Html {
  const base = HEIGHT - BOTTOM;
  return html`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-labelledby="${id}-title ${id}-desc">
<title id="${id}-title">${title}</title><desc id="${id}-desc">${description}</desc>
${content}
<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${base}" y2="${base}"/>
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}" text-anchor="middle">${xLabel}</text>
</svg>`;
}

function xTick(x: number, label: string): Html {
  const base = HEIGHT - BOTTOM;
  return html`<line class="axis" x1="${x}" x2="${x}" y1="${base}" y2="${base + 4}"/><text x="${x}" y="${base + 16}" text-anchor="middle">${label}</text>`;
}

function yTick(y: number, label: string): Html {
  return html`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/><text x="${LEFT - 6}" y="${rounded(y + 4)}" text-anchor="end">${label}</text>`;
}

function upright(x: number): Html {
  return html`<line class="mark" x1="${x}" x2="${x}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>`;
}

/** Shares of the predictions by KLD on a log scale: the candidate as bars, the noise floor as an outline over them. */
export function kldPlot(logits: LogitsReport, allowed: number | null): Html {
  const { histogram, kld, floor } = logits;
  const shares = (counts: readonly number[]) => {
    const total = counts.reduce((a, b) => a + b, 0);
    return counts.map((count) => (total === 0 ? 0 : count / total));
  };
  const candidate = shares(histogram.candidate);
  const outline = histogram.floor === null ? null : shares(histogram.floor);
  const edge = (bin: number) => histogram.from + bin * histogram.step;
  const filled = candidate.flatMap((share, i) => (share > 0 || (outline?.[i] ?? 0) > 0 ? [i] : []));
  const marks = [kld.mean.value, allowed].flatMap((value) =>
    value !== null && value > 0 ? [Math.log10(value)] : [],
  );
  const from = Math.min(edge(filled[0] ?? 0), ...marks) - histogram.step;
  const to = Math.max(edge((filled.at(-1) ?? 0) + 1), ...marks) + histogram.step;
  const most = Math.max(1e-9, ...candidate, ...(outline ?? []));
  const { x, y } = scaleOf([from, to], [0, most * 1.05]);
  const bars = candidate.flatMap((share, i) =>
    share === 0
      ? []
      : [
          html`<rect class="bar" x="${x(edge(i))}" y="${y(share)}" width="${rounded(Math.max(0.5, x(edge(i + 1)) - x(edge(i)) - 1))}" height="${rounded(y(0) - y(share))}"/>`,
        ],
  );
  const steps = outline?.map(
    (share, i) => `${i === 0 ? "M" : "L"}${x(edge(i))} ${y(share)}H${x(edge(i + 1))}`,
  );
  const content = [
    ...shareTicks(most).map((share) => yTick(y(share), percent(share))),
    ...ticks(from, to, 7).map((power) => xTick(x(power), `1e${power}`)),
    ...bars,
    ...(steps ? [html`<path class="floor" d="${visiblePart(steps, filled)}"/>`] : []),
    ...(allowed !== null && allowed > 0 ? [upright(x(Math.log10(allowed)))] : []),
  ];
  const floorWords = floor
    ? ` The noise floor has a mean of ${figure(floor.meanKld)} and a 99 % point of ${figure(floor.p99)}.`
    : "";
  return html`<figure><figcaption>KL divergence of each prediction</figcaption>${drawing({
    id: "kld",
    title: "Distribution of the KL divergence",
    description: `Share of ${logits.predictions} predictions by KL divergence in nats, on a logarithmic axis. Mean ${figure(kld.mean.value)}, median ${figure(kld.median)}, 99 % below ${figure(kld.p99)}, largest ${figure(kld.max)}.${floorWords}`,
    content,
    xLabel: "KLD in nats",
  })}${legend([
    [html`<rect class="bar" width="18" height="12"/>`, `candidate, mean ${figure(kld.mean.value)}`],
    ...(floor
      ? [
          [
            html`<line class="floor" x2="18" y1="6" y2="6"/>`,
            `noise floor, mean ${figure(floor.meanKld)}`,
          ] as const,
        ]
      : []),
    ...(allowed === null
      ? []
      : [
          [
            html`<line class="mark" x1="9" x2="9" y2="12"/>`,
            `the gate's bound on the mean, ${figure(allowed)}`,
          ] as const,
        ]),
  ])}</figure>`;
}

/** The outline where there is something to see, so that no line lies on the axis over the whole width. */
function visiblePart(steps: readonly string[], filled: readonly number[]): string {
  const part = steps.slice(filled[0] ?? 0, (filled.at(-1) ?? 0) + 1).join("");
  return part.replace(/^L/, "M");
}

/** Relative error of the hidden state after each layer, on a log scale, and the same of the noise floor. */
export function layerPlot(logits: LogitsReport): Html | null {
  const { layers, firstApart } = logits;
  const errors = layers.map((layer) => layer.relativeError ?? 0);
  const floors = layers.map((layer) => layer.floor ?? 0);
  const positive = [...errors, ...floors].filter((value) => value > 0);
  if (positive.length === 0) return null;
  const low = Math.floor(Math.log10(Math.min(...positive)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive))));
  const { x, y } = scaleOf([0, Math.max(1, layers.length - 1)], [low, high]);
  const apart = layers.findIndex((layer) => layer.name === firstApart?.layer);
  const line = (values: readonly number[], kind: string, dot: string) => {
    const points = values.flatMap((value, i) => (value > 0 ? [[x(i), y(Math.log10(value))] as const] : []));
    const path = points.map(([px, py], i) => `${i === 0 ? "M" : "L"}${px} ${py}`).join("");
    const dots =
      layers.length > 50
        ? []
        : points.map(([px, py]) => html`<circle class="${dot}" cx="${px}" cy="${py}" r="2.5"/>`);
    return html`<path class="${kind}" d="${path}"/>${dots}`;
  };
  const content = [
    ...ticks(low, high, 6).map((power) => yTick(y(power), `1e${power}`)),
    ...layerTicks(layers.map((layer) => layer.name)).map(([i, label]) => xTick(x(i), label)),
    ...(apart < 0 ? [] : [upright(x(apart))]),
    line(floors, "floor", "floordot"),
    line(errors, "candidate", "dot"),
  ];
  const worst = Math.max(...errors);
  return html`<figure><figcaption>Error of the hidden state after each layer</figcaption>${drawing({
    id: "layers",
    title: "Relative error by layer",
    description: `Relative error of the hidden state after ${layers.length} layers, on a logarithmic axis; errors of 0 are not drawn. Largest ${figure(worst)} after ${layers[errors.indexOf(worst)]!.name}.`,
    content,
    xLabel: `layer; from ${layers[0]!.name} to ${layers.at(-1)!.name}`,
  })}${legend([
    [html`<line class="candidate" x2="18" y1="6" y2="6"/>`, "candidate against reference"],
    ...(floors.some((value) => value > 0)
      ? [[html`<line class="floor" x2="18" y1="6" y2="6"/>`, "noise floor"] as const]
      : []),
    ...(apart < 0
      ? []
      : [
          [
            html`<line class="mark" x1="9" x2="9" y2="12"/>`,
            `the two sides part at ${firstApart!.layer}`,
          ] as const,
        ]),
  ])}</figure>`;
}

/** Points that are "layer 0", "layer 1", … under their own numbers, about eight of them. */
function layerTicks(names: readonly string[]): [at: number, label: string][] {
  const numbered = names.flatMap((name, i) => {
    const number = /^layer (\d+)$/.exec(name)?.[1];
    return number === undefined ? [] : [[i, number] as [number, string]];
  });
  const step = Math.max(1, Math.ceil(numbered.length / 8));
  return numbered.filter(([, label]) => Number(label) % step === 0);
}

/** Keys of a plot: what is drawn like this, and its name. */
export function legend(keys: readonly (readonly [shape: Html, name: string])[]): Html {
  const items = keys.map(
    ([shape, name]) => html`<li><svg viewBox="0 0 18 12" aria-hidden="true">${shape}</svg>${name}</li>`,
  );
  return html`<ul class="legend">${items}</ul>`;
}
