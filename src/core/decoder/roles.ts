import { AppError } from "../errors.ts";
import type { ModelSpec } from "./spec.ts";

/** Fields of a spec that hold names of tensors. */
const NAMES = new Set(["tokens", "tensor", "segments", "weight", "bias"]);

export interface Roles {
  /** The spec with every tensor named by its place in the model, such as `layers.0.attention.out.weight`. */
  readonly spec: ModelSpec;
  /** Role → name in the checkpoint. */
  readonly names: ReadonlyMap<string, string>;
}

/** Names tensors by what they do, so that checkpoints which call them otherwise can run side by side. */
export function rolesOf(spec: ModelSpec): Roles {
  const names = new Map<string, string>();
  const visit = (value: unknown, path: string, key: string): unknown => {
    if (typeof value === "string" && NAMES.has(key)) {
      names.set(path, value);
      return path;
    }
    if (Array.isArray(value)) return value.map((item, i) => visit(item, `${path}.${i}`, ""));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [
        name,
        visit(item, path === "" ? name : `${path}.${name}`, name),
      ]),
    );
  };
  return { spec: visit(spec, "", "") as ModelSpec, names };
}

/** @throws MODEL_DIFFERS naming the first field in which two models compute otherwise; `family` does not count */
export function requireSameModel(reference: Roles, candidate: Roles): void {
  const difference = firstDifference(reference.spec, candidate.spec, "");
  if (difference === null) return;
  throw new AppError(
    "MODEL_DIFFERS",
    `the candidate's config.json describes another computation than the reference's: ${difference}. It was not made from this base, or its config was changed.`,
  );
}

function firstDifference(a: unknown, b: unknown, path: string): string | null {
  if (path === "family" || Object.is(a, b)) return null;
  const bothObjects = a !== null && b !== null && typeof a === "object" && typeof b === "object";
  if (!bothObjects) return `${path} is ${short(b)} instead of ${short(a)}`;
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const [left, right] = [a, b].map((of) => (of as Record<string, unknown>)[key]);
    const found = firstDifference(left, right, path === "" ? key : `${path}.${key}`);
    if (found) return found;
  }
  return null;
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? "absent";
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
