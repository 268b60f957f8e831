import type { Finding } from "../errors.ts";
import { base, type Expr, mul, reshape } from "../expr.ts";
import { isUnset, type JsonObject } from "../json.ts";
import { compilePattern } from "../patterns.ts";
import { knownFields } from "./config.ts";
import {
  type Adapted,
  type KindContext,
  type Made,
  type ModuleKind,
  parseModules,
  partOf,
  shapeProblem,
  weightTarget,
} from "./frame.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { badField, type Matcher } from "./module-names.ts";
import { findTensor } from "./parts.ts";

/**
 * IA3 (Liu 2022): `W' = W ⊙ l` with `ia3_l` (out×1) on the outputs, and then also `b' = b ⊙ l`; or (1×in) on the inputs
 * of feedforward modules, whose bias stays. A convolution has (1×channels×1×1) for either.
 */
export function parseIa3(input: AdapterInput): ParsedAdapter {
  return parseModules(input, IA3);
}

const IA3: ModuleKind = {
  name: "IA3",
  part: /ia3_l/,
  // PEFT overrides fan_in_fan_out by layer type and saves whatever the last layer left there.
  fields: { known: knownFields("feedforward_modules fan_in_fan_out init_ia3_weights") },
  layers: ["linear", "transposed", "convolution"],
  read(config, context) {
    const feedforward = readFeedforward(config, context);
    return (adapted) => {
      const inputs = feedforward === null ? byShape(adapted) : feedforward(adapted.module);
      if (inputs === null) return undecided(adapted);
      return adapted.layer === "convolution" ? convolution(adapted, inputs) : linear(adapted, inputs);
    };
  },
};

/** PEFT's rule: a regular expression for whole names, or endings of names, which need not begin at a dot. */
function readFeedforward(config: JsonObject, { report }: KindContext): Matcher | null {
  const field = "feedforward_modules";
  const value = config[field];
  if (value === undefined || value === null) return null;
  if (typeof value === "string") {
    const pattern = compilePattern(value, `adapter_config.json ${field}`, report);
    return (module) => pattern.matchesAll(module);
  }
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) {
    return (module) => (value as string[]).some((ending) => module.endsWith(ending));
  }
  if (!isUnset(value)) report(badField(field, value, "a string or a list of strings"));
  return () => false;
}

/** Without feedforward_modules PEFT takes a table of model types; what it made of it shows in the vector's shape. */
function byShape({ parts, layer, weight }: Adapted): boolean | null {
  const [first, second] = parts.get("ia3_l")!.shape;
  if (layer === "convolution") {
    if (weight.shape[0] === weight.shape[1]) return null;
    return second === weight.shape[1];
  }
  return first === second ? null : first === 1;
}

function undecided({ module, weight }: Adapted): Finding {
  return {
    code: "BAD_ADAPTER_CONFIG",
    subject: module,
    message: `adapter_config.json names no feedforward_modules, and the shapes of module ${module} [${weight.shape}] fit both readings of ia3_l. Restore the field from training.`,
  };
}

function linear(adapted: Adapted, inputs: boolean): Made {
  const { out, weight, layer } = adapted;
  const problem = shapeProblem(adapted, { ia3_l: inputs ? [1, adapted.in] : [out, 1] });
  if (problem) return problem;
  const gate = partOf(adapted, "ia3_l");
  const along = (layer === "transposed") === inputs ? [adapted.in, 1] : [1, out];
  const placed = layer === "transposed" ? reshape(gate, along) : gate;
  const target = weightTarget(adapted, { change: "IA3", expr: mul(base(weight.name), placed) });
  return inputs ? [target] : [target, ...biasTarget(adapted, gate)];
}

function convolution(adapted: Adapted, inputs: boolean): Made {
  const { weight, out } = adapted;
  const ones = weight.shape.slice(2).map(() => 1);
  const problem = shapeProblem(adapted, { ia3_l: [1, inputs ? null : out, ...ones] });
  if (problem) return problem;
  const gate = partOf(adapted, "ia3_l");
  if (!inputs) {
    const expr = mul(base(weight.name), reshape(gate, [out, 1, ...ones]));
    return [weightTarget(adapted, { change: "IA3", expr }), ...biasTarget(adapted, gate)];
  }
  const channels = adapted.parts.get("ia3_l")!.shape[1]!;
  const each = weight.shape[1]!;
  // A grouped convolution reads other channels in every group of outputs.
  const groups = channels / each;
  if (!Number.isInteger(groups) || groups < 1 || out % groups !== 0) {
    return shapeProblem(adapted, { ia3_l: [1, each, ...ones] })!;
  }
  const byGroup = reshape(base(weight.name), [groups, out / groups, ...weight.shape.slice(1)]);
  const product = mul(byGroup, reshape(gate, [groups, 1, each, ...ones]));
  const expr = groups === 1 ? mul(base(weight.name), gate) : reshape(product, weight.shape);
  return [weightTarget(adapted, { change: "IA3", expr })];
}

function biasTarget(adapted: Adapted, gate: Expr) {
  const { input, module, out } = adapted;
  const bias = findTensor(input, module, "bias");
  if (bias === null) return [];
  const target = weightTarget(adapted, { change: "IA3", expr: mul(base(bias.name), reshape(gate, [out])) });
  return [{ ...target, tensor: bias.name }];
}
