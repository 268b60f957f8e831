import type { Finding } from "../errors.ts";
import { base, call, type Expr, permute, reshape } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { knownFields, readCount, readFlag, readNumber } from "./config.ts";
import {
  type Adapted,
  dimOf,
  type KindContext,
  type Made,
  type ModuleKind,
  parseModules,
  partOf,
  shapeProblem,
  weightTarget,
} from "./frame.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { versionBefore } from "./peft-version.ts";

/**
 * OFT (Qiu 2023): `W' = W·Dᵀ` with the rotations D on the diagonal, one for each block of b input columns or the same for
 * all (`block_share`); an embedding is turned along its width, `W' = W·D`. `oft_R.weight` (n × b(b-1)/2) holds the upper
 * triangles of skew Q, D's blocks are Cayley's `(I-Q)(I+Q)⁻¹` or a series near it (`use_cayley_neumann`).
 */
export function parseOft(input: AdapterInput): ParsedAdapter {
  const old = input.tensors.find(({ name }) => /\.oft_r(\.default)?$/.test(name));
  return old ? { targets: [], warnings: [], problems: [oldFormat(old.name)] } : parseModules(input, OFT);
}

function oldFormat(name: string): Finding {
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: name,
    message: `adapter tensor "${name}" is of OFT before PEFT 0.16, whose arithmetic was another one. Merge it with PEFT 0.15.2 or older and import the result.`,
  };
}

interface Settings {
  /** Blocks of a layer; 0: they follow from the size. */
  readonly blocks: number;
  /** Size of a block; 0: it follows from the count. */
  readonly size: number;
  readonly share: boolean;
  /** COFT's bound, `null` without the constraint. */
  readonly bound: number | null;
  /** Terms of the series, `null` for the exact transform. */
  readonly terms: number | null;
}

const OFT: ModuleKind = {
  name: "OFT",
  part: /oft_R\.weight|oft_embedding_R\.weight/,
  fields: {
    known: knownFields(
      // PEFT overrides fan_in_fan_out by layer type and saves whatever the last layer left there.
      "r oft_block_size module_dropout fan_in_fan_out bias init_weights coft eps block_share use_cayley_neumann num_cayley_neumann_terms",
    ),
  },
  layers: ["linear", "convolution", "embedding"],
  read(config, context) {
    const settings = readSettings(config, context);
    return (adapted) => makeTarget(adapted, settings);
  },
};

function readSettings(config: JsonObject, { report, warn }: KindContext): Settings {
  const coft = readFlag(config, { field: "coft", fallback: false }, report);
  const eps = readNumber(config, { field: "eps", fallback: 6e-5 }, report);
  const series = readFlag(config, { field: "use_cayley_neumann", fallback: true }, report);
  const terms = readCount(config, { field: "num_cayley_neumann_terms", fallback: 5 }, report);
  if (series && versionBefore(config.peft_version, [0, 18])) {
    warn({
      code: "OLD_SERIES",
      subject: "use_cayley_neumann",
      message:
        "adapter_config.json: PEFT before 0.18 summed use_cayley_neumann's series in a slightly other way. It is merged as PEFT of today sums it; " +
        "for the old sum merge with the PEFT version that trained it.",
    });
  }
  return {
    blocks: readCount(config, { field: "r", fallback: 0 }, report),
    size: readCount(config, { field: "oft_block_size", fallback: 32 }, report),
    share: readFlag(config, { field: "block_share", fallback: false }, report),
    bound: coft ? eps : null,
    terms: series ? terms : null,
  };
}

function makeTarget(adapted: Adapted, settings: Settings): Made {
  const { weight, out } = adapted;
  const embedding = adapted.layer === "embedding";
  const part = embedding ? "oft_embedding_R.weight" : "oft_R.weight";
  // b(b-1)/2 elements; a block of size 1 has none, and its rotation is no change.
  const size = Math.round((1 + Math.sqrt(1 + 8 * dimOf(adapted, part, 1))) / 2);
  const stated = settings.blocks > 0 ? nearestDivisor(adapted.in, settings.blocks) : 0;
  const expected = stated > 0 ? adapted.in / stated : nearestDivisor(adapted.in, settings.size);
  const count = settings.share ? 1 : adapted.in / expected;
  const problem = shapeProblem(adapted, { [part]: [count, (expected * (expected - 1)) / 2] });
  if (problem) return problem;
  const rotations = rotationsOf(partOf(adapted, part), size, settings);
  const whole = reshape(base(weight.name), [out, adapted.in]);
  const expr = call("turn", [
    weight.shape.length === 2 ? base(weight.name) : whole,
    embedding ? permute(rotations, [0, 2, 1]) : rotations,
  ]);
  return [weightTarget(adapted, { change: "OFT", expr: reshape(expr, weight.shape) })];
}

/** PEFT's `adjust_oft_parameters`: the divisor of the width that is nearest to a number that does not divide it. */
function nearestDivisor(width: number, wanted: number): number {
  if (wanted >= width) return width;
  let [lower, higher] = [wanted, wanted];
  while (higher <= width && width % higher !== 0) higher++;
  while (lower > 1 && width % lower !== 0) lower--;
  return wanted - lower <= higher - wanted ? lower : higher;
}

function rotationsOf(vectors: Expr, size: number, { bound, terms }: Settings): Expr {
  const skew = call("skew", [vectors], { size });
  const bounded = bound === null ? skew : call("constrain", [skew], { eps: bound });
  return terms === null ? call("cayley", [bounded]) : call("cayley-neumann", [bounded], { terms });
}
