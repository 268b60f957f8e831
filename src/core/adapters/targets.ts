import type { LocatedTensor } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import { type AdapterInput, orphan } from "./index.ts";
import type { Matcher } from "./module-names.ts";
import { candidates, type Found, nameFor, type Reading, withoutWrappers } from "./names.ts";
import type { Parts } from "./parts.ts";

export interface TargetCheck {
  readonly input: AdapterInput;
  /** What adapter_config.json targets, by names in memory; `null` where it states nothing. */
  readonly targets: Matcher | null;
  /** The modules of the adapter file. */
  readonly modules: ReadonlyMap<string, Parts>;
  /**
   * Whether the kind would adapt the module that a base tensor belongs to, by the tensor's name and shape; default: a
   * `.weight` of two dimensions or more. PEFT raises for a targeted module that it cannot adapt, so no config targets one.
   */
  readonly adapts?: (tensor: LocatedTensor) => boolean;
}

const isMatrix = (tensor: LocatedTensor) => tensor.name.endsWith(".weight") && tensor.shape.length >= 2;

/** `…experts.3.w1`: one expert of a mixture; in memory they are one tensor (transformers 5). */
export const ONE_EXPERT = /\.experts\.\d+\./;

/**
 * Where an adapter file and its config disagree, which PEFT passes over in silence: NO_TARGET (alone) where the base
 * has none of the modules, ORPHAN_TENSOR for modules that the config does not target, MISSING_TENSOR for modules that it
 * targets and the file lacks. Modules that the base lacks are left to the kind: see `absent`.
 */
export function targetProblems(check: TargetCheck): Finding[] {
  const { input, targets, modules } = check;
  const found = new Map([...modules.keys()].map((module) => [module, weightsOf(input, module)]));
  if (modules.size > 0 && [...found.values()].every((weights) => weights.length === 0)) {
    return [noTarget([...modules.keys()])];
  }
  if (targets === null) return [];
  const untargeted = [...modules].filter(([module]) => !targets(withoutWrappers(module)));
  return [
    ...untargeted.map(([module, parts]) =>
      orphan(firstName(parts), `adapter_config.json does not target module ${module}`),
    ),
    ...missing(check, [...found.values()].flat()),
  ];
}

const firstName = (parts: Parts) => [...parts.values()][0]!.name;

/** Tensors that show that the base has a module; attention with fused projections has no weight of its own. */
const LEAVES = ["weight", "bias", "in_proj_weight"];

function weightsOf(input: AdapterInput, module: string): Found[] {
  for (const leaf of LEAVES) {
    const found = candidates(input, `${module}.${leaf}`);
    if (found.length > 0) return found;
  }
  return [];
}

/** One reason instead of one a module: the adapter was made for another architecture. */
export function noTarget(modules: readonly string[]): Finding {
  return {
    code: "NO_TARGET",
    message:
      `none of the ${modules.length} adapted modules exists in the base (for example ${modules[0]}): ` +
      "the adapter belongs to another architecture or naming. Name the base it was trained on.",
  };
}

/** Targeted modules of the base, under the names they have for this adapter, that the file has nothing for. */
function missing(check: TargetCheck, found: readonly Found[]): Finding[] {
  const { input, modules } = check;
  const targets = check.targets!;
  const adapts = check.adapts ?? isMatrix;
  const present = new Set(found.map(({ tensor }) => tensor.name));
  const readings = commonReadings(input, [...modules.keys()]);
  // Experts are modules of their own only for adapters older than transformers 5.
  const perExpert = [...modules.keys()].some((module) => ONE_EXPERT.test(`${module}.`));
  const problems: Finding[] = [];
  for (const tensor of input.base.values()) {
    if (present.has(tensor.name) || !adapts(tensor) || (!perExpert && ONE_EXPERT.test(tensor.name))) continue;
    const names = readings.map((reading) => moduleName(nameFor(input, tensor.name, reading)));
    const module = names.find(targets);
    if (module === undefined || modules.has(module)) continue;
    problems.push({
      code: "MISSING_TENSOR",
      subject: module,
      message: `adapter_config.json targets module ${module}, but the adapter file holds nothing for it: the file is incomplete, save it again.`,
    });
  }
  return problems;
}

const moduleName = (tensor: string) => tensor.slice(0, tensor.lastIndexOf("."));

/**
 * The ways to read names under which most modules of the file are found. A name that is the same stored and in memory
 * speaks for both.
 */
function commonReadings(input: AdapterInput, modules: readonly string[]): Reading[] {
  const votes = new Map<string, { reading: Reading; count: number }>();
  const vote = (reading: Reading) => {
    const key = `${reading.system} ${reading.extra} ${reading.lacking}`;
    const before = votes.get(key);
    votes.set(key, { reading, count: (before?.count ?? 0) + 1 });
  };
  for (const module of modules) {
    for (const { tensor, reading } of weightsOf(input, module)) {
      const other = { ...reading, system: reading.system === "stored" ? "memory" : "stored" } as const;
      vote(reading);
      if (nameFor(input, tensor.name, reading) === nameFor(input, tensor.name, other)) vote(other);
    }
  }
  const most = Math.max(0, ...[...votes.values()].map(({ count }) => count));
  return [...votes.values()].filter(({ count }) => count === most).map(({ reading }) => reading);
}
