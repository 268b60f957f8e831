import type { Finding, Report } from "../errors.ts";
import { isUnset, type Json, type JsonObject } from "../json.ts";
import { compilePathPart, compilePattern, limitPatterns } from "../patterns.ts";
import type { ModuleSelection } from "../recipe.ts";

export function badField(field: string, value: Json | undefined, wanted: string): Finding {
  const message = `adapter_config.json: ${field} must be ${wanted}, found ${shown(value)}.`;
  return { code: "BAD_ADAPTER_CONFIG", subject: field, message };
}

function shown(value: Json | undefined): string {
  return typeof value === "number" ? String(value) : (JSON.stringify(value) ?? "nothing").slice(0, 80);
}

export type Matcher = (module: string) => boolean;

/** PEFT's rules for which modules are adapted (`check_target_module_exists`). */
export function readTargets(config: JsonObject, report: Report): Matcher | null {
  const targeted = readNames(config, "target_modules", report);
  const excluded = readNames(config, "exclude_modules", report);
  const inLayers = readLayers(config, report);
  const replaced = readReplaced(config, report);
  if (targeted === null) return null;
  return (module) => {
    if (excluded !== null && (excluded.equals(module) || excluded.suffix(module))) return false;
    if (replaced(module)) return false;
    // A full name bypasses the layer filter; so does PEFT.
    return targeted.equals(module) || (targeted.suffix(module) && inLayers(module));
  };
}

/** Heads that PEFT saves with these tasks although modules_to_save may not name them. */
const TASK_HEADS: Readonly<Record<string, readonly string[]>> = {
  SEQ_CLS: ["classifier", "score"],
  TOKEN_CLS: ["classifier", "score"],
  QUESTION_ANS: ["qa_outputs"],
};

/** Modules that modules_to_save replaces, and all below them, are never adapted; each entry is a regular expression. */
function readReplaced(config: JsonObject, report: Report): Matcher {
  const given = isUnset(config.modules_to_save)
    ? []
    : readList({ value: config.modules_to_save, field: "modules_to_save", type: "string" }, report);
  const task = config.task_type;
  const heads = typeof task === "string" && Object.hasOwn(TASK_HEADS, task) ? TASK_HEADS[task]! : [];
  const field = "adapter_config.json modules_to_save";
  const names = limitPatterns([...new Set([...(given as string[]), ...heads])], field, report);
  const patterns = names.map((name) => compilePathPart(name, field, report));
  return (module) => patterns.some((pattern) => pattern.matchesAll(module));
}

interface Names {
  /** The whole name is listed, or the regular expression matches it. */
  equals: Matcher;
  /** An entry of the list is the end of the name, from a dot on. */
  suffix: Matcher;
}

function readNames(config: JsonObject, field: string, report: Report): Names | null {
  const value = config[field];
  // An empty list is a statement: it names no module.
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return compileNames(value, `adapter_config.json ${field}`, report);
  return compileNames(readList({ value, field, type: "string" }, report) as string[], field, report);
}

/** What follows each dot of a name. */
export function endings(name: string): string[] {
  const found: string[] = [];
  for (let at = name.indexOf("."); at >= 0; at = name.indexOf(".", at + 1)) found.push(name.slice(at + 1));
  return found;
}

/** Embeddings, and the output heads that PEFT leaves out of "all-linear". */
const NOT_LINEAR = /(^|\.)(\w*embed\w*|wte|wpe|lm_head|score|classifier)$/;

/** PEFT's reading of target_modules: a regular expression for whole names, or a list of names and of their endings. */
function compileNames(names: string | readonly string[], field: string, report: Report): Names {
  if (typeof names === "string") {
    // PEFT writes the names of all linear layers instead; a file that says it was edited by hand.
    if (names.toLowerCase() === "all-linear")
      return { equals: (module) => !NOT_LINEAR.test(module), suffix: () => false };
    const pattern = compilePattern(names, field, report);
    return { equals: (module) => pattern.matchesAll(module), suffix: () => false };
  }
  const whole = new Set(names);
  return {
    equals: (module) => whole.has(module),
    suffix: (module) => endings(module).some((ending) => whole.has(ending)),
  };
}

/** A model has one list of layers, or a few. */
const MAX_LAYER_WORDS = 20;

function readLayers(config: JsonObject, report: Report): Matcher {
  const value = config.layers_to_transform;
  if (value === undefined || value === null || (Array.isArray(value) && value.length === 0))
    return () => true;
  const layers = new Set(readList({ value, field: "layers_to_transform", type: "number" }, report));
  const given = config.layers_pattern;
  const words = isUnset(given)
    ? [".*\\.[^.]*"]
    : (readList({ value: given, field: "layers_pattern", type: "string" }, report) as string[]);
  if (words.length > MAX_LAYER_WORDS) {
    report(badField("layers_pattern", given, `a list of at most ${MAX_LAYER_WORDS} names`));
    return () => false;
  }
  // Without a pattern some name has to stand before the layer's own: PEFT finds no layer in "layers.0.up".
  const patterns = words.map((word) => layerNumber(word, report));
  return (module) => {
    const found = patterns.map((read) => read(module)).find((number) => number !== null);
    return found !== undefined && found !== null && layers.has(found);
  };
}

/** Levels of modules in modules among which a layer's number is looked for. */
const MAX_DEPTH = 30;

/**
 * The layer number by PEFT's `.*?\.WORD\.(\d+)\.` (0.21: also at the start of the name). Each dotted number is tried
 * from the left, so that the engine needs no groups.
 */
function layerNumber(word: string, report: Report): (module: string) => number | null {
  const before = compilePattern(`(?:.*\\.)?${word}`, "adapter_config.json layers_pattern", report);
  return (module) => {
    const parts = module.split(".");
    for (let i = 1; i < Math.min(parts.length - 1, MAX_DEPTH); i++) {
      if (/^\d+$/.test(parts[i]!) && before.matchesAll(parts.slice(0, i).join("."))) return Number(parts[i]);
    }
    return null;
  };
}

interface ListField {
  readonly value: Json | undefined;
  readonly field: string;
  readonly type: "string" | "number";
}

function readList({ value, field, type }: ListField, report: Report): Json[] {
  const list: Json[] = Array.isArray(value) ? [...value] : [value ?? null];
  if (list.every((item) => typeof item === type)) return list;
  report(badField(field, value, `a ${type} or a list of ${type}s`));
  return [];
}

/** Whether a partial merge's selection names a module; see `Recipe.include`. */
export function compileSelection(selection: ModuleSelection, field: string, report: Report): Matcher {
  const names =
    selection.modules === null ? null : compileNames(selection.modules, `recipe ${field}`, report);
  const layers = selection.layers === null ? null : new Set(selection.layers);
  const layerOf = layerNumber("[^.]*", report);
  return (module) =>
    (names === null || names.equals(module) || names.suffix(module)) &&
    (layers === null || layers.has(layerOf(`${module}.`) ?? -1));
}
