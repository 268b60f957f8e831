import { isMergeable } from "../dtype.ts";
import type { Finding } from "../errors.ts";
import { fieldProblems, knownFields } from "./config.ts";
import type { AdapterInput, AdapterTarget, ParsedAdapter } from "./index.ts";
import { readTargets } from "./module-names.ts";
import { absent, findTensor, groupByModule, oddKeys, type Parts, read } from "./parts.ts";
import { targetProblems } from "./targets.ts";

const FIELDS = { known: knownFields("fan_in_fan_out") };

/**
 * LN tuning (Zhao et al. 2023): layer norms are trained as they are, and the trained module takes the place of the
 * base's. Keys: `<norm>.ln_tuning_layers.weight` and, where the norm has one, `.bias`.
 */
export function parseLnTuning(input: AdapterInput): ParsedAdapter {
  const problems = fieldProblems(input.config, FIELDS);
  const bad: Finding[] = [];
  const targets = readTargets(input.config, (finding) => bad.push(finding));
  if (bad.length > 0) return { targets: [], problems: [...problems, ...bad], warnings: [] };
  const grouped = groupByModule(input, /ln_tuning_layers\.(?:weight|bias)/);
  problems.push(
    ...targetProblems({
      input,
      targets,
      modules: grouped.modules,
      adapts: ({ name, shape }) => name.endsWith(".weight") && shape.length === 1,
    }),
  );
  const made: AdapterTarget[] = [];
  for (const [module, parts] of grouped.modules) {
    for (const result of normTargets(input, module, parts)) {
      if ("code" in result) problems.push(result);
      else made.push(result);
    }
  }
  return { targets: made, problems, warnings: oddKeys(grouped) };
}

function normTargets(input: AdapterInput, module: string, parts: Parts): (AdapterTarget | Finding)[] {
  return ["weight", "bias"].flatMap((leaf): (AdapterTarget | Finding)[] => {
    const tensor = parts.get(`ln_tuning_layers.${leaf}`);
    const place = findTensor(input, module, leaf);
    if (!tensor) return place ? [incomplete(module, leaf)] : [];
    if (!place) return [absent(input, tensor, module, leaf)];
    if (
      tensor.shape.join() !== place.shape.join() ||
      !isMergeable(tensor.dtype) ||
      !isMergeable(place.dtype)
    ) {
      return [
        {
          code: "SHAPE_MISMATCH",
          subject: tensor.name,
          message: `adapter tensor "${tensor.name}" is ${tensor.dtype} [${tensor.shape}] and replaces ${place.name}, which is ${place.dtype} [${place.shape}]: name the base that the adapter was trained on.`,
        },
      ];
    }
    const expr = read(input, tensor);
    return [{ tensor: place.name, module, change: "layer norm", rank: null, alpha: null, scale: null, expr }];
  });
}

function incomplete(module: string, leaf: string): Finding {
  return {
    code: "MISSING_TENSOR",
    subject: module,
    message: `module ${module} was trained as a whole, but its ${leaf} is not in the adapter file: the file is incomplete, save it again.`,
  };
}
