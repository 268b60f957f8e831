import { type Html, html } from "./html-markup.ts";
import { legend } from "./html-plots.ts";
import type { TensorRetention } from "./report.ts";
import { figure, percent } from "./wording.ts";

/** Retention as a map of layers and modules: how much of each change arrived. */

interface Cell {
  readonly layer: number;
  readonly module: string;
  readonly tensors: readonly TensorRetention[];
}

interface Measure {
  readonly id: string;
  readonly caption: string;
  readonly value: (tensor: TensorRetention) => number | null;
  /** Of several tensors in a cell the one that is furthest from this is shown. */
  readonly best: number;
  readonly write: (value: number) => string;
  /** Classes from the lowest to the highest value: each holds values below its end. */
  readonly classes: readonly { readonly below: number; readonly css: string; readonly label: string }[];
}

const RELATIVE_ERROR: Measure = {
  id: "error",
  caption: "Error of the stored change, relative to the change",
  value: (tensor) => tensor.relativeError,
  best: 0,
  write: (value) => percent(value),
  classes: [
    { below: 0.001, css: "s0", label: "< 0.1 %" },
    { below: 0.003, css: "s1", label: "< 0.3 %" },
    { below: 0.01, css: "s2", label: "< 1 %" },
    { below: 0.03, css: "s3", label: "< 3 %" },
    { below: 0.1, css: "s4", label: "< 10 %" },
    { below: 0.3, css: "s5", label: "< 30 %" },
    { below: 1, css: "s6", label: "< 100 %" },
    { below: Number.POSITIVE_INFINITY, css: "s7", label: "≥ 100 %" },
  ],
};

const PROJECTION: Measure = {
  id: "projection",
  caption: "Projection of the stored change on the change",
  value: (tensor) => tensor.projection,
  best: 1,
  write: figure,
  classes: [
    { below: 0.5, css: "d0", label: "< 0.5" },
    { below: 0.9, css: "d1", label: "< 0.9" },
    { below: 0.99, css: "d2", label: "< 0.99" },
    { below: 1.01, css: "d3", label: "< 1.01" },
    { below: 1.1, css: "d4", label: "< 1.1" },
    { below: 1.5, css: "d5", label: "< 1.5" },
    { below: Number.POSITIVE_INFINITY, css: "d6", label: "≥ 1.5" },
  ],
};

/** Beyond this many rows or columns a map is no picture any more; the table has every tensor. */
const MOST_LAYERS = 256;
const MOST_MODULES = 24;

/** Both maps, or null where no touched tensor belongs to a numbered layer, or there are too many modules. */
export function retentionMaps(tensors: readonly TensorRetention[]): Html | null {
  const cells = cellsOf(tensors);
  const layers = [...new Set(cells.map((cell) => cell.layer))].sort((a, b) => a - b);
  const modules = [...new Set(cells.map((cell) => cell.module))];
  if (cells.length === 0 || layers.length > MOST_LAYERS || modules.length > MOST_MODULES) return null;
  const maps = [RELATIVE_ERROR, PROJECTION].map((measure) => map({ measure, cells, layers, modules }));
  return html`<div class="plots">${maps}</div>`;
}

/** By the first number in the module's name and what follows it; later numbers (experts) share a column. */
function cellsOf(tensors: readonly TensorRetention[]): Cell[] {
  const groups = new Map<string, { layer: number; module: string; tensors: TensorRetention[] }>();
  for (const tensor of tensors) {
    const match = /^(?:.*?\.)?(\d{1,6})\.(.+)$/.exec(tensor.module);
    if (!match) continue;
    const module = match[2]!.replace(/(^|\.)\d+(?=\.|$)/g, "$1*");
    const key = `${match[1]}.${module}`;
    const group = groups.get(key) ?? { layer: Number(match[1]), module, tensors: [] };
    group.tensors.push(tensor);
    groups.set(key, group);
  }
  return [...groups.values()];
}

interface MapParts {
  readonly measure: Measure;
  readonly cells: readonly Cell[];
  readonly layers: readonly number[];
  readonly modules: readonly string[];
}

const WIDTH = 400;
const LEFT = 34;
const HEAD = 74;

function map({ measure, cells, layers, modules }: MapParts): Html {
  const width = Math.min(48, (WIDTH - LEFT - 26) / modules.length);
  const row = layers.length > 40 ? 9 : 14;
  const every = layers.length > 40 ? 4 : layers.length > 12 ? 2 : 1;
  const height = HEAD + layers.length * row + 4;
  const at = new Map(layers.map((layer, i) => [layer, i]));
  const column = new Map(modules.map((module, i) => [module, i]));
  const names = shortNames(modules);
  const rects = cells.map((cell) => {
    const value = furthest(cell.tensors, measure);
    const css = value === null ? "none" : measure.classes.find((entry) => value < entry.below)!.css;
    const x = (LEFT + column.get(cell.module)! * width + 0.5).toFixed(1);
    const y = HEAD + at.get(cell.layer)! * row + 0.5;
    const words = value === null ? "nothing to compare" : measure.write(value);
    return html`<rect class="${css}" x="${x}" y="${y}" width="${(width - 1).toFixed(1)}" height="${row - 1}"><title>layer ${cell.layer}, ${cell.module}: ${words}</title></rect>`;
  });
  const heads = names.map((name, i) => {
    const x = (LEFT + (i + 0.5) * width).toFixed(1);
    return html`<text transform="translate(${x} ${HEAD - 6}) rotate(-40)">${name}</text>`;
  });
  const rows = layers.flatMap((layer, i) =>
    i % every === 0
      ? [html`<text x="${LEFT - 6}" y="${HEAD + i * row + row / 2 + 4}" text-anchor="end">${layer}</text>`]
      : [],
  );
  const worst = furthest(
    cells.flatMap((cell) => cell.tensors),
    measure,
  );
  return html`<figure><figcaption>${measure.caption}</figcaption>
<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="${measure.id}-title ${measure.id}-desc">
<title id="${measure.id}-title">${measure.caption}, by layer and module</title>
<desc id="${measure.id}-desc">${layers.length} layers (rows) by ${modules.length} modules (columns). The value furthest from ${measure.best} is ${worst === null ? "not known" : measure.write(worst)}. The table of tensors has every value.</desc>
<text x="${LEFT - 6}" y="${HEAD - 6}" text-anchor="end">layer</text>${heads}${rows}
${rects}
</svg>${legend(measure.classes.map(({ css, label }) => [html`<rect class="${css}" width="18" height="12"/>`, label] as const))}</figure>`;
}

function furthest(tensors: readonly TensorRetention[], { value, best }: Measure): number | null {
  let found: number | null = null;
  for (const tensor of tensors) {
    const one = value(tensor);
    if (one !== null && (found === null || Math.abs(one - best) > Math.abs(found - best))) found = one;
  }
  return found;
}

/** The last part of each name, or all of it where two would read the same; at most 14 characters. */
function shortNames(modules: readonly string[]): string[] {
  const last = modules.map((module) => module.slice(module.lastIndexOf(".") + 1));
  return modules.map((module, i) => {
    const name = last.filter((other) => other === last[i]).length > 1 ? module : last[i]!;
    return name.length > 14 ? `…${name.slice(-13)}` : name;
  });
}
