import type { Finding } from "../errors.ts";
import {
  add,
  base,
  concat,
  type Expr,
  lowRankUpdate,
  matmul,
  reshape,
  round,
  scale,
  slice,
  transpose,
} from "../expr.ts";
import { isTransposed, shapesTell } from "./expert-layout.ts";
import { type Parameter, type Piece, parametersOf, parametersOfBase } from "./expert-parameters.ts";
import { type AdapterInput, type AdapterTarget, orphan } from "./index.ts";
import type { LoraConfig } from "./lora-config.ts";
import {
  baseProblem,
  finding,
  isFinding,
  type Made,
  required,
  type Scaling,
  scalingOf,
} from "./lora-parts.ts";
import { type Parts, read } from "./parts.ts";

/*
 * LoRA on parameters instead of modules (`target_parameters`, PEFT's ParamWrapper): the experts of a mixture, of which
 * transformers 5 keeps all in one tensor (experts×out×in). A is (experts·r×in) with the rank running fastest, B
 * (out×experts·r) with the expert running fastest: `ΔWₑ = s·B[:, e::experts]·A[e·r : (e+1)·r]`, rounded to the base's type
 * before it is added. Checkpoints hold one tensor for all experts, or one or two for each.
 */

export interface ParameterRequest {
  readonly input: AdapterInput;
  readonly config: LoraConfig;
  readonly modules: ReadonlyMap<string, Parts>;
}

function targetedOf(input: AdapterInput, config: LoraConfig, module: string): Parameter[] {
  const named = [...new Set(config.parameters.map((entry) => entry.slice(entry.lastIndexOf(".") + 1)))];
  return parametersOf(input, module, named).filter(({ name }) =>
    config.targetsParameter(`${module}.${name}`),
  );
}

const withoutLevels = (module: string) => module.replace(/(\.base_layer)+$/, "");
const levelOf = (module: string) => (module.length - withoutLevels(module).length) / ".base_layer".length;

/**
 * Modules of the file whose factors belong to parameters, with the factors from the innermost wrapper outwards: PEFT
 * nests one wrapper in another for each parameter of a module, `experts.base_layer.lora_A` within `experts.lora_A`.
 */
export function parameterModules({
  input,
  config,
  modules,
}: ParameterRequest): Map<string, readonly Parts[]> {
  const found = new Map<string, Parts[]>();
  if (config.parameters.length === 0) return found;
  const byDepth = [...modules].sort(([a], [b]) => levelOf(b) - levelOf(a));
  for (const [module, parts] of byDepth) {
    const plain = withoutLevels(module);
    if (targetedOf(input, config, plain).length === 0) continue;
    found.set(plain, [...(found.get(plain) ?? []), parts]);
  }
  return found;
}

export const isOfParameters = (module: string, parameters: ReadonlyMap<string, unknown>) =>
  parameters.has(withoutLevels(module));

export interface ExpertModule {
  readonly input: AdapterInput;
  readonly config: LoraConfig;
  readonly module: string;
  /** Innermost first. */
  readonly levels: readonly Parts[];
}

/** The parameters of one module that the config targets, each with the factors of its wrapper. */
export function expertTargets({ input, config, module, levels }: ExpertModule): Made {
  const targeted = targetedOf(input, config, module);
  const names = targeted.map(({ name }) => name).join(", ");
  if (targeted.length > levels.length) {
    return finding(
      "MISSING_TENSOR",
      module,
      ` has factors for ${levels.length} of its parameters, but target_parameters names ${names}: the file is incomplete, save it again`,
    );
  }
  if (targeted.length < levels.length) {
    return orphan(
      [...levels[0]!.values()][0]!.name,
      `target_parameters names only ${names} of module ${module}, and the file has factors for ${levels.length}`,
    );
  }
  if (targeted.length > 1 && targeted.some(({ ordered }) => !ordered)) {
    return finding(
      "UNSUPPORTED_VARIANT",
      module,
      `: the file does not say which factors belong to which of the parameters ${names}, and the order in which this model registers them is not known. Merge it with PEFT and import the result`,
    );
  }
  const told = targeted
    .map((parameter, i) => (isMatrix(parameter) ? null : shapesTell(parameter, levels[i]!)))
    .filter((one) => one !== null);
  const others = told.length > 0 && told.every((one) => one === told[0]) ? told[0]! : null;
  const made: AdapterTarget[] = [];
  for (const [i, parameter] of targeted.entries()) {
    const one = parameterTargets({ input, config, module, parts: levels[i]!, parameter, others });
    if (isFinding(one)) return one;
    made.push(...one);
  }
  return made;
}

interface OneParameter {
  readonly input: AdapterInput;
  readonly config: LoraConfig;
  readonly module: string;
  readonly parts: Parts;
  readonly parameter: Parameter;
  readonly others: boolean | null;
}

const isMatrix = ({ pieces }: Parameter) => pieces.length === 1 && pieces[0]!.tensor.shape.length === 2;

function parameterTargets(one: OneParameter): Made {
  const { input, config, module, parts, parameter } = one;
  const name = `${module}.${parameter.name}`;
  const { experts, rows, columns } = parameter;
  const problem = parameter.pieces.map(({ tensor }) => baseProblem(tensor)).find((found) => found !== null);
  if (problem) return problem;
  const layout = isTransposed({ ...one, name });
  if (typeof layout !== "boolean") return layout;
  const [width, height] = layout ? [rows, columns] : [columns, rows];
  const ranks = parts.get("lora_A.weight")?.shape[0] ?? 0;
  const a = required({ module: name, parts }, "lora_A.weight", [ranks, width]);
  const b = required({ module: name, parts }, "lora_B.weight", [height, ranks]);
  if (isFinding(a)) return a;
  if (isFinding(b)) return b;
  if (ranks % experts !== 0) {
    return finding(
      "SHAPE_MISMATCH",
      name,
      `: lora_A has ${ranks} rows, which the ${experts} experts do not divide`,
    );
  }
  const scaling = scalingOf(config, name, ranks / experts);
  if (isFinding(scaling)) return scaling;
  const factors = { a: read(input, a), b: read(input, b), experts, transposed: layout, ...scaling };
  const about = {
    module: name,
    change: "LoRA",
    rank: scaling.rank,
    alpha: scaling.alpha,
    scale: scaling.scale,
  };
  return parameter.pieces.map(
    (piece): AdapterTarget => ({ ...about, tensor: piece.tensor.name, expr: changedPiece(piece, factors) }),
  );
}

interface Factors extends Scaling {
  readonly a: Expr;
  readonly b: Expr;
  readonly experts: number;
  readonly transposed: boolean;
}

/** A tensor of the checkpoint that is a parameter, or some rows of one expert of it, with its change. */
function changedPiece({ tensor, expert, start, stop }: Piece, factors: Factors): Expr {
  if (expert !== null) {
    const { left, right } = expertFactors(factors, expert);
    const cut = slice(left, 0, start, stop);
    return lowRankUpdate({ base: tensor.name, left: cut, right, scale: factors.scale, roundFirst: true });
  }
  if (tensor.shape.length === 2) {
    const { left, right } = expertFactors(factors, 0);
    return lowRankUpdate({ base: tensor.name, left, right, scale: factors.scale, roundFirst: true });
  }
  const changes = Array.from({ length: factors.experts }, (_, e) => {
    const { left, right } = expertFactors(factors, e);
    return reshape(matmul(left, right), [1, ...tensor.shape.slice(1)]);
  });
  return add(base(tensor.name), round(scale(factors.scale, concat(0, changes))));
}

/** Left and right factor of one expert's change, as the parameter is stored. */
function expertFactors({ a, b, experts, rank, transposed }: Factors, expert: number) {
  const own = experts === 1 ? a : slice(a, 0, expert * rank, (expert + 1) * rank);
  const other = experts === 1 ? b : slice(b, 1, expert, experts * rank, experts);
  return transposed ? { left: transpose(own), right: transpose(other) } : { left: other, right: own };
}

/** Parameters that the config targets and the base has, without factors in the file. */
export function missingParameters({ input, config, modules }: ParameterRequest): Finding[] {
  const present = new Set([...modules.keys()].map(withoutLevels));
  return parametersOfBase(input)
    .filter(({ module, name }) => config.targetsParameter(`${module}.${name}`) && !present.has(module))
    .map(({ module, name }) =>
      finding(
        "MISSING_TENSOR",
        `${module}.${name}`,
        " is named by target_parameters, but the adapter file holds nothing for it: the file is incomplete, save it again",
      ),
    );
}
