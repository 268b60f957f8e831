import type { Finding, Report } from "../errors.ts";
import { isJsonObject, isUnset, type Json, type JsonObject } from "../json.ts";
import { compilePatternKey, firstMatch, limitPatterns, type Pattern } from "../patterns.ts";
import { badField } from "./module-names.ts";

/** A stable code, and why the field stops the merge. */
export type Refusal = readonly [code: string, why: string];

/** What a kind makes of the fields of its adapter_config.json. */
export interface FieldRules {
  /** Fields that the kind reads, and known ones without influence on a merge. */
  readonly known: ReadonlySet<string>;
  /** Known fields that stop the merge when they are set. */
  readonly refused?: Readonly<Record<string, Refusal>>;
}

/** Fields of every kind that are read elsewhere, or say where an adapter comes from. */
const EVERYWHERE =
  "peft_type task_type auto_mapping base_model_name_or_path revision inference_mode peft_version " +
  "target_modules exclude_modules layers_to_transform layers_pattern";

/** The fields that every kind has and some more, separated by spaces. */
export function knownFields(more: string): ReadonlySet<string> {
  return new Set(`${EVERYWHERE} ${more}`.split(" "));
}

/** Refuses fields that are set although nobody here knows them, or although the kind cannot be merged with them. */
export function fieldProblems(config: JsonObject, { known, refused = {} }: FieldRules): Finding[] {
  const problems: Finding[] = [];
  for (const [field, value] of Object.entries(config)) {
    if (isUnset(value)) continue;
    const refusal = Object.hasOwn(refused, field) ? refused[field] : undefined;
    if (refusal) problems.push(fieldFinding(refusal[0], field, `${field} is set: ${refusal[1]}`));
    else if (!known.has(field)) {
      const shown = JSON.stringify(value).slice(0, 80);
      problems.push(
        fieldFinding(
          "UNKNOWN_CONFIG_FIELD",
          field,
          `${field} = ${shown} is not a field known here and may change the arithmetic; ` +
            "remove it if it does not, or merge with the PEFT version that wrote it",
        ),
      );
    }
  }
  return problems;
}

/** A finding about one field; the sentence goes without its full stop. */
export function fieldFinding(code: string, field: string, sentence: string): Finding {
  return { code, subject: field, message: `adapter_config.json: ${sentence}.` };
}

/** JSON has no infinity, but 1e999 is read as one. */
function isNumber(value: Json): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

export interface FieldOf<T> {
  readonly field: string;
  /** PEFT's default, for an absent field only: null is nothing that PEFT could calculate with. */
  readonly fallback: T;
}

/** A number; BAD_ADAPTER_CONFIG for anything else. */
export function readNumber(config: JsonObject, { field, fallback }: FieldOf<number>, report: Report): number {
  const value = config[field];
  if (value === undefined) return fallback;
  if (isNumber(value)) return value;
  report(badField(field, value, "a finite number"));
  return fallback;
}

/** A whole number of at least `least`; BAD_ADAPTER_CONFIG for anything else. */
export function readCount(
  config: JsonObject,
  { field, fallback, least = 0 }: FieldOf<number> & { readonly least?: number },
  report: Report,
): number {
  const value = config[field];
  if (value === undefined) return fallback;
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  report(badField(field, value, `a whole number of at least ${least}`));
  return fallback;
}

/** True or false; Python takes 1 and "false" for true, here they would be read as false, so they are refused. */
export function readFlag(config: JsonObject, { field, fallback }: FieldOf<boolean>, report: Report): boolean {
  const value = config[field];
  if (value === undefined || value === null) return fallback;
  if (typeof value === "boolean") return value;
  report(badField(field, value, "true or false"));
  return fallback;
}

/** Of a module by its name: PEFT's rank_pattern and alpha_pattern over a global number. */
export function readPatterned(
  config: JsonObject,
  { field, fallback, patterns }: FieldOf<number> & { readonly patterns: string },
  report: Report,
): (module: string) => number {
  const number = readNumber(config, { field, fallback }, report);
  const byPattern = readPatterns(config, patterns, report);
  return (module) => firstMatch(byPattern, module, number);
}

function readPatterns(config: JsonObject, field: string, report: Report) {
  const value = config[field];
  const patterns: { pattern: Pattern; value: number }[] = [];
  if (isUnset(value)) return patterns;
  if (!isJsonObject(value)) {
    report(badField(field, value, "an object of numbers"));
    return patterns;
  }
  for (const key of limitPatterns(Object.keys(value), `adapter_config.json ${field}`, report)) {
    const number = value[key]!;
    const pattern = compilePatternKey(key, `adapter_config.json ${field}`, report);
    if (isNumber(number)) patterns.push({ pattern, value: number });
    else report(badField(`${field}["${key}"]`, number, "a finite number"));
  }
  return patterns;
}
