import type { Fields } from "./fields.ts";
import type { RopeSpec } from "./spec.ts";

type RopeType = RopeSpec["type"];

/** Besides `rope_type`, `type`, `rope_theta` and `partial_rotary_factor`. */
const FIELDS_OF: Readonly<Record<RopeType, readonly string[]>> = {
  default: [],
  linear: ["factor"],
  dynamic: ["factor"],
  yarn: [
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
  ],
  llama3: ["factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"],
  longrope: ["factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"],
};

/** Names of the same kind of position in other versions of a family's config. */
export type RopeAliases = Readonly<Record<string, RopeType>>;

export interface RopeDefaults {
  readonly headDim: number;
  readonly maxPositions: number;
  readonly theta: number;
  /** The part of a head that turns, where the family has one; null: whole heads. */
  readonly partial: number | null;
  /** Fields of config.json that older files use. */
  readonly thetaField?: string;
  readonly partialField?: string;
  /** Phi-3 takes `original_max_position_embeddings` from config.json alone, with this default. */
  readonly originalMaxPositions?: number;
  readonly aliases?: RopeAliases;
}

/**
 * Reads how positions are turned into angles, in both spellings: `rope_parameters` (transformers 5), or `rope_theta` and
 * `rope_scaling`. Where a file has both and they disagree, it is refused.
 * @throws UNSUPPORTED_ARCHITECTURE, BAD_CONFIG
 */
export function readRope(fields: Fields, defaults: RopeDefaults): RopeSpec {
  return readRopeTable(fields, ropeObject(fields), defaults);
}

/** The object that says how; null where the file has none. */
export function ropeObject(fields: Fields): Fields | null {
  const parameters = fields.object("rope_parameters");
  const scaling = fields.object("rope_scaling");
  if (parameters && scaling && !parameters.equals(scaling)) {
    throw fields.refused(
      "rope_scaling",
      "rope_parameters says something else, and only one of them can be meant",
    );
  }
  return scaling ?? parameters;
}

/** As `readRope`, from one object of several. */
export function readRopeTable(fields: Fields, table: Fields | null, defaults: RopeDefaults): RopeSpec {
  const type = readType(table, defaults.aliases ?? {});
  const dims = rotated(fields, table, defaults);
  if (dims < 2 || dims % 2 !== 0 || (type === "dynamic" && dims === 2)) {
    throw fields.refused(
      "head_dim",
      `${dims} of ${defaults.headDim} numbers of a head would turn; pairs are needed`,
    );
  }
  const theta = agreed(fields, table, {
    inside: "rope_theta",
    outside: defaults.thetaField ?? "rope_theta",
    absent: defaults.theta,
  });
  // log(theta) divides, and a base of 1 turns every pair alike.
  if (theta <= 1) throw fields.refused(defaults.thetaField ?? "rope_theta", "a base must be above 1");
  const spec = { ...UNSCALED, type, theta, dims, maxPositions: defaults.maxPositions };
  if (type === "default") {
    table?.refuseUnknown();
    fields.accept("original_max_position_embeddings");
    return spec;
  }
  const scaled = { ...spec, ...readScaling(fields, table!, { type, dims, defaults }) };
  table!.refuseUnknown();
  return scaled;
}

const UNSCALED = {
  factor: null,
  originalMaxPositions: null,
  attentionFactor: null,
  betaFast: null,
  betaSlow: null,
  mscale: null,
  mscaleAllDim: null,
  truncate: null,
  lowFreqFactor: null,
  highFreqFactor: null,
  shortFactor: null,
  longFactor: null,
} as const;

function readType(table: Fields | null, aliases: RopeAliases): RopeType {
  if (!table) return "default";
  const name = table.text("rope_type", table.text("type", "default"));
  if (table.has("type") && table.text("type", name) !== name) {
    throw table.refused("type", `rope_type says "${name}"`);
  }
  const type = Object.hasOwn(aliases, name) ? aliases[name]! : name;
  if (!Object.hasOwn(FIELDS_OF, type)) {
    const field = table.has("rope_type") ? "rope_type" : "type";
    throw table.refused(field, `known kinds of positions are ${Object.keys(FIELDS_OF).join(", ")}`);
  }
  return type as RopeType;
}

/** A value that may stand inside the object or, in older files, in config.json; where both do they must agree. */
function agreed(
  fields: Fields,
  table: Fields | null,
  { inside, outside, absent }: { inside: string; outside: string; absent: number },
): number {
  const within = table?.maybeNumber(inside, null) ?? null;
  const without = fields.maybeNumber(outside, null);
  if (within !== null && without !== null && within !== without) {
    throw fields.refused(outside, `${table!.nameOf(inside)} says ${within}`);
  }
  return within ?? without ?? absent;
}

/** Numbers of a head that turn. */
function rotated(
  fields: Fields,
  table: Fields | null,
  { headDim, partial, partialField }: RopeDefaults,
): number {
  const field = partialField ?? "partial_rotary_factor";
  const part = agreed(fields, table, {
    inside: "partial_rotary_factor",
    outside: field,
    absent: partial ?? 1,
  });
  if (part <= 0 || part > 1) throw fields.refused(field, `${part} is no part of a head`);
  if (partial === null && part !== 1) {
    throw fields.refused(field, `${part} is asked for, and this family turns whole heads`);
  }
  return Math.floor(headDim * part);
}

function readScaling(
  fields: Fields,
  table: Fields,
  { type, dims, defaults }: { type: RopeType; dims: number; defaults: RopeDefaults },
): Partial<RopeSpec> {
  const known = FIELDS_OF[type];
  const number = (name: string) => (known.includes(name) ? table.maybeNumber(name, null) : null);
  const original = known.includes("original_max_position_embeddings")
    ? originalLength(fields, table, defaults)
    : null;
  const needed = (name: string) => {
    const value = number(name);
    if (value === null || value <= 0)
      throw table.bad(name, `a number above 0 (rope type "${type}" needs it)`);
    return value;
  };
  const factors = (name: string) => {
    const list = known.includes(name) ? table.numbers(name) : null;
    if (known.includes(name) && list?.length !== dims / 2) {
      throw table.bad(name, `a list of ${dims / 2} numbers (one for each pair of a head that turns)`);
    }
    return list;
  };
  // transformers takes the ratio of the lengths where these two types leave the factor out.
  const ratio = type === "longrope" || (type === "yarn" && table.raw("factor") === null);
  return {
    factor:
      (ratio ? number("factor") : null) ?? (ratio ? defaults.maxPositions / original! : needed("factor")),
    originalMaxPositions: original,
    attentionFactor: number("attention_factor"),
    betaFast: number("beta_fast"),
    betaSlow: number("beta_slow"),
    mscale: number("mscale"),
    mscaleAllDim: number("mscale_all_dim"),
    truncate: type === "yarn" ? table.flag("truncate", true) : null,
    lowFreqFactor: type === "llama3" ? needed("low_freq_factor") : null,
    highFreqFactor: type === "llama3" ? needed("high_freq_factor") : null,
    shortFactor: factors("short_factor"),
    longFactor: factors("long_factor"),
  };
}

/**
 * transformers prefers the field of config.json to the one inside, and falls back to `max_position_embeddings`; a file
 * that says two things is refused.
 */
function originalLength(fields: Fields, table: Fields, defaults: RopeDefaults): number {
  const name = "original_max_position_embeddings";
  const outside = fields.maybeCount(name, defaults.originalMaxPositions ?? null);
  const inside = table.maybeCount(name, null);
  if (outside !== null && inside !== null && outside !== inside) {
    throw fields.refused(name, `${table.nameOf(name)} says ${inside}, and transformers takes ${outside}`);
  }
  return outside ?? inside ?? defaults.maxPositions;
}
