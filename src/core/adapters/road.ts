import type { Report } from "../errors.ts";
import { add, base, call, concat, type Expr, mul, repeat, reshape, round, scale, slice } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { knownFields, readCount } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, type LinearModule, parseLinear } from "./linear-kind.ts";
import { badField } from "./module-names.ts";
import { shapeMismatch } from "./part-shapes.ts";
import { findTensor } from "./parts.ts";

interface Settings {
  readonly group: number;
  readonly variant: string;
}

/** Parameters for each output row, by variant. */
const PER_ROW: Readonly<Record<string, number>> = { road_1: 0.5, road_2: 1, road_4: 2 };

/**
 * RoAd (Liao et al. 2024): rows i and i + g/2 of each group of g output rows are turned by an angle and stretched:
 * `w_i' = α cos θ · w_i − α sin θ · w_j`, `w_j' = α sin θ · w_i + α cos θ · w_j`, and the bias like a column of W.
 * road_1 has one θ and α for a pair, road_2 one for each row, road_4 four for a pair. α·cos θ and α·sin θ are rounded to
 * W's type before they multiply. Their sines and cosines are rounded once to float32; torch's own are off in its last
 * bit here and there, which only a base of F32 shows.
 */
const ROAD: LinearKind<Settings> = {
  change: "RoAd",
  fields: { known: knownFields("variant group_size init_weights") },
  parts: { road_theta: { shape: ["n"] }, road_alpha: { shape: ["n"] } },
  settings: readSettings,
  changes(module) {
    const { input, settings, weight, dims, name } = module;
    const { group, variant } = settings;
    const [rows, columns] = weight.shape as [number, number];
    if (rows % group !== 0) {
      return shapeMismatch(name, `its ${rows} rows do not divide into groups of ${group} (group_size)`);
    }
    if (dims.n !== rows * PER_ROW[variant]!) {
      return shapeMismatch(
        name,
        `road_theta has ${dims.n} values, but ${variant} of ${rows} rows has ${rows * PER_ROW[variant]!}`,
      );
    }
    const [cosine, sine] = factors(module, rows);
    const turned = call(
      "turn-pairs",
      [base(weight.name), partners(base(weight.name), rows, group), cosine, sine],
      {
        half: group / 2,
        rows,
        first: 0,
      },
    );
    const bias = findTensor(input, name, "bias");
    if (!bias) return [{ expr: turned }];
    if (bias.shape.length !== 1 || bias.shape[0] !== rows) {
      return shapeMismatch(name, `its bias has the shape [${bias.shape}], its weight [${rows}, ${columns}]`);
    }
    const column = reshape(base(bias.name), [rows, 1]);
    const products = add(mul(column, cosine), mul(partners(column, rows, group), sine));
    return [{ expr: turned }, { tensor: bias.name, expr: reshape(products, [rows]) }];
  },
};

function readSettings(config: JsonObject, report: Report): Settings {
  const group = readCount(config, { field: "group_size", fallback: 64, least: 2 }, report);
  if (group % 2 !== 0) report(badField("group_size", config.group_size, "an even number"));
  const variant = config.variant ?? "road_1";
  if (typeof variant === "string" && Object.hasOwn(PER_ROW, variant)) return { group, variant };
  report(badField("variant", variant, "road_1, road_2 or road_4"));
  return { group, variant: "road_1" };
}

/** α·cos θ and α·sin θ of every row, as columns. */
function factors({ settings, part }: LinearModule<Settings>, rows: number): [Expr, Expr] {
  const { group, variant } = settings;
  const half = group / 2;
  const theta = part("road_theta");
  const alpha = part("road_alpha");
  const column = (of: Expr) => round(reshape(of, [rows, 1]));
  if (variant === "road_4") {
    const side = (of: Expr, i: number) => slice(reshape(of, [rows / group, 2, group]), 1, i, i + 1);
    return [
      column(mul(side(alpha, 0), call("cos", [side(theta, 0)]))),
      column(mul(side(alpha, 1), call("sin", [side(theta, 1)]))),
    ];
  }
  const wide = (of: Expr) => (variant === "road_1" ? repeat(reshape(of, [rows / group, 1, half]), 1, 2) : of);
  return [
    column(mul(wide(alpha), call("cos", [wide(theta)]))),
    column(mul(wide(alpha), call("sin", [wide(theta)]))),
  ];
}

/** For each row its partner, whose sign is the other one in the first half of a group. */
function partners(of: Expr, rows: number, group: number): Expr {
  const half = group / 2;
  const halves: Expr[] = [];
  for (let start = 0; start < rows; start += group) {
    halves.push(scale(-1, slice(of, 0, start + half, start + group)), slice(of, 0, start, start + half));
  }
  return concat(0, halves);
}

export const parseRoad = (input: AdapterInput): ParsedAdapter => parseLinear(input, ROAD);
