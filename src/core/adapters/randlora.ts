import type { TensorFacts } from "../checkpoint.ts";
import type { Finding, Report } from "../errors.ts";
import { call, type Expr, lowRankUpdate, mul, reshape, slice, transpose } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { knownFields, readCount, readNumber } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, type LinearModule, parseLinear } from "./linear-kind.ts";
import { rankMismatch, shapeMismatch } from "./part-shapes.ts";
import { read } from "./parts.ts";

interface Settings {
  readonly rank: number;
  readonly alpha: number;
}

/**
 * RandLoRA (Albert et al. 2025): `W + s·Σ_n B_n·(λ_n ⊙ A ⊙ γ_n)`, s = alpha/r, with random bases A (r×1×min) and B
 * (max×n×r) that all modules share, cut to the weight's smaller and larger size, and λ (r×n), γ (n×min) of the module;
 * turned round where the weight has more columns than rows. PEFT flattens B over (n, r) but A over (r, n), and so does
 * this. The change is rounded to W's type first.
 */
const RANDLORA: LinearKind<Settings> = {
  change: "RandLoRA",
  fields: {
    known: knownFields(
      "r randlora_alpha projection_prng_key save_projection sparse very_sparse randlora_dropout fan_in_fan_out bias init_weights",
    ),
  },
  parts: {
    randlora_lambda: { shape: ["r", "n"] },
    randlora_gamma: { shape: ["n", "small"] },
    randlora_A: { shape: ["r", 1, "widest"], optional: true },
    randlora_B: { shape: ["tallest", "bases", "r"], optional: true },
  },
  shared: /randlora_[AB]/,
  transposes: true,
  settings: readSettings,
  changes(module) {
    const { name, settings, weight, dims } = module;
    const rank = dims.r!;
    if (settings.rank !== rank) return rankMismatch(name, settings.rank, rank);
    const small = Math.min(dims.out!, dims.in!);
    const large = Math.max(dims.out!, dims.in!);
    const count = dims.n!;
    if (dims.small !== small)
      return shapeMismatch(name, `randlora_gamma has ${dims.small} columns, not ${small}`);
    const a = basis(module, "randlora_A", [rank, 1, small]);
    const b = basis(module, "randlora_B", [large, count, rank]);
    if ("code" in a) return a;
    if ("code" in b) return b;
    const weights = reshape(module.part("randlora_lambda"), [rank, count, 1]);
    const scaled = mul(mul(slice(a, 2, 0, small), weights), module.part("randlora_gamma"));
    const right = reshape(scaled, [rank * count, small]);
    const left = reshape(slice(slice(b, 0, 0, large), 1, 0, count), [large, count * rank]);
    const scale = settings.alpha / settings.rank;
    // The product is large×small: out×in unless there are more inputs than outputs.
    const turned = (dims.in !== small) !== module.transposed;
    const factors = turned ? { left: transpose(right), right: transpose(left) } : { left, right };
    const expr = lowRankUpdate({ base: weight.name, ...factors, scale, roundFirst: true });
    return [{ rank, alpha: settings.alpha, scale, expr }];
  },
};

function readSettings(config: JsonObject, report: Report): Settings {
  return {
    rank: readCount(config, { field: "r", fallback: 32, least: 1 }, report),
    alpha: readNumber(config, { field: "randlora_alpha", fallback: 640 }, report),
  };
}

/** A basis that is at least so large; PEFT saves it once and again for every module. */
function basis(
  { input, name, parts, shared }: LinearModule<Settings>,
  part: string,
  least: readonly number[],
): Expr | Finding {
  const own = parts.get(part);
  const common = shared.get(part);
  const tensor = own ?? common;
  if (!tensor) return unsaved(name, part);
  const large = (of: TensorFacts) => of.shape.length === 3 && least.every((size, i) => of.shape[i]! >= size);
  const same = !own || !common || own.shape.join() === common.shape.join();
  if (
    !large(tensor) ||
    tensor.shape[part === "randlora_A" ? 0 : 2] !== least[part === "randlora_A" ? 0 : 2] ||
    !same
  ) {
    const both = own && common ? `[${own.shape}] and shared [${common.shape}]` : `[${tensor.shape}]`;
    return shapeMismatch(name, `${part} is ${both}, where at least [${least}] is needed`);
  }
  return own && common ? call("agreeing", [read(input, own), read(input, common)]) : read(input, tensor);
}

function unsaved(module: string, part: string): Finding {
  return {
    code: "NEEDS_TORCH_RNG",
    subject: module,
    message: `the adapter file has no ${part} (save_projection false): the random bases come from torch's generator and projection_prng_key. Save the adapter again with save_projection true, or merge it with PEFT and import the result.`,
  };
}

export const parseRandlora = (input: AdapterInput): ParsedAdapter => parseLinear(input, RANDLORA);
