import type { TensorFacts } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import { lowRankUpdate, mul, reshape, slice, transpose } from "../expr.ts";
import { knownFields, readNumber } from "./config.ts";
import {
  type Adapted,
  dimOf,
  type KindContext,
  type Made,
  type ModuleKind,
  parseModules,
  partOf,
  rankProblem,
  shapeProblem,
  weightTarget,
} from "./frame.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { read } from "./parts.ts";

/**
 * VeRA (Kopiczko 2023): `W' = W + (b ⊙ B)·(d ⊙ A)` with A (r×in) and B (out×r) cut from two random projections that all
 * modules share, and the trained vectors `vera_lambda_b` (out) and `vera_lambda_d` (r).
 */
export function parseVera(input: AdapterInput): ParsedAdapter {
  return parseModules(input, kindOf({ name: "VeRA", prefix: "vera", halves: 1 }));
}

/**
 * PVeRA: VeRA whose A and d have a second half of r rows for the spread around the mean. Merged is the mean, which is
 * what the adapter computes at inference unless `sample_at_inference` is set.
 */
export function parsePvera(input: AdapterInput): ParsedAdapter {
  return parseModules(input, kindOf({ name: "PVeRA", prefix: "pvera", halves: 2 }));
}

interface Variant {
  readonly name: string;
  readonly prefix: string;
  /** Of the rows of A, one is the mean. */
  readonly halves: 1 | 2;
}

const SAMPLED = [
  "NOT_A_WEIGHT_UPDATE",
  "the adapter draws its change anew at every call, so no fixed weight equals it: serve it beside the base, or unset the field to merge the mean",
] as const;

function kindOf(variant: Variant): ModuleKind {
  const { name, prefix } = variant;
  return {
    name,
    part: new RegExp(`${prefix}_lambda_[bd]`),
    fields: {
      known: knownFields(
        // PEFT overrides fan_in_fan_out by layer type and saves whatever the last layer left there.
        `r projection_prng_key save_projection ${prefix}_dropout d_initial fan_in_fan_out bias init_weights generator_seed`,
      ),
      refused: { sample_at_inference: SAMPLED },
    },
    layers: ["linear", "transposed"],
    read(config, context) {
      const rank = readNumber(config, { field: "r", fallback: 256 }, context.report);
      const shared = { a: projection(context, `${prefix}_A`), b: projection(context, `${prefix}_B`) };
      return (adapted) => makeTarget(adapted, { variant, rank, ...shared });
    },
  };
}

/** A shared projection lies beside the model, at `base_model.vera_A`. */
function projection({ others }: KindContext, name: string): TensorFacts | undefined {
  return others.get(name) ?? others.get(`base_model.${name}`);
}

interface Setting {
  readonly variant: Variant;
  /** Of the config. */
  readonly rank: number;
  readonly a: TensorFacts | undefined;
  readonly b: TensorFacts | undefined;
}

function makeTarget(adapted: Adapted, { variant, rank: stated, a, b }: Setting): Made {
  const { input, weight, out, layer } = adapted;
  const { name, prefix, halves } = variant;
  if (!a || !b) return unsaved(adapted, variant);
  const rank = dimOf(adapted, `${prefix}_lambda_d`, 0) / halves;
  const problem =
    shapeProblem(adapted, { [`${prefix}_lambda_d`]: [null], [`${prefix}_lambda_b`]: [out] }) ??
    rankProblem(adapted, rank, stated) ??
    projectionProblem(adapted, { a, b, rank: rank * halves, columns: rank });
  if (problem) return problem;
  const lambda = (which: string, size: number) =>
    reshape(partOf(adapted, `${prefix}_lambda_${which}`), [size, 1]);
  const cutA = slice(slice(read(input, a), 0, 0, rank), 1, 0, adapted.in);
  const right = mul(slice(lambda("d", rank * halves), 0, 0, rank), cutA);
  const left = mul(lambda("b", out), slice(read(input, b), 0, 0, out));
  const sides = layer === "transposed" ? { left: transpose(right), right: transpose(left) } : { left, right };
  const expr = lowRankUpdate({ base: weight.name, ...sides, scale: 1, roundFirst: false });
  return [weightTarget(adapted, { change: name, expr, rank })];
}

function unsaved({ module }: Adapted, { name, prefix }: Variant): Finding {
  return {
    code: "NEEDS_TORCH_RNG",
    subject: module,
    message:
      `${name}: the adapter file lacks the shared projections ${prefix}_A and ${prefix}_B (save_projection was false); they come ` +
      "from torch's random generator and a seed. Load the adapter with PEFT, set save_projection to true in its config, and save it again.",
  };
}

interface Projections {
  readonly a: TensorFacts;
  readonly b: TensorFacts;
  /** Rows of A. */
  readonly rank: number;
  /** Columns of B. */
  readonly columns: number;
}

function projectionProblem(adapted: Adapted, { a, b, rank, columns }: Projections): Finding | null {
  const fits =
    a.shape.length === 2 &&
    b.shape.length === 2 &&
    a.shape[0] === rank &&
    b.shape[1] === columns &&
    a.shape[1]! >= adapted.in &&
    b.shape[0]! >= adapted.out;
  if (fits) return null;
  return {
    code: "SHAPE_MISMATCH",
    subject: adapted.module,
    message:
      `module ${adapted.module}: the shared projections are [${a.shape}] and [${b.shape}], but must be [${rank}, at least ${adapted.in}] ` +
      `and [at least ${adapted.out}, ${columns}]. The adapter was trained on another base.`,
  };
}
