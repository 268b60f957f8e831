import { AppError } from "../errors.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";

/**
 * The fields of a config.json, or of an object inside it, read with their types. It remembers which were read, so that
 * `refuseUnread` can name a field that changes the computation and that nobody looked at.
 */
export class Fields {
  readonly #values: JsonObject;
  /** In front of a name in messages, e.g. `rope_parameters.`. */
  readonly #path: string;
  readonly #read = new Set<string>();
  /** `model_type`. */
  readonly family: string;

  constructor(values: JsonObject, family: string, path = "") {
    this.#values = values;
    this.family = family;
    this.#path = path;
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  raw(name: string): Json | undefined {
    this.#read.add(name);
    return this.#values[name];
  }

  /** The name with the objects around it, e.g. `rope_parameters.rope_theta`. */
  nameOf(name: string): string {
    return this.#path + name;
  }

  /** Whether another object says the same, in whatever order. */
  equals(other: Fields): boolean {
    const sorted = (values: JsonObject) =>
      JSON.stringify(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));
    return sorted(this.#values) === sorted(other.#values);
  }

  /** Marks fields that do not change this family's computation, whatever they say. */
  accept(...names: readonly string[]): void {
    for (const name of names) this.#read.add(name);
  }

  /** A finite number; `absent` where the file leaves the field out. */
  number(name: string, absent: number): number {
    const value = this.raw(name);
    if (value === undefined) return absent;
    if (typeof value !== "number" || !Number.isFinite(value)) throw this.bad(name, "a number");
    return value;
  }

  /** As `number`, but 1 or more and whole, and no larger than `most`: a width or a count. */
  count(name: string, absent: number, most = 1e9): number {
    const value = this.number(name, absent);
    if (!Number.isSafeInteger(value) || value < 1 || value > most) {
      throw this.bad(name, `a whole number from 1 to ${most}`);
    }
    return value;
  }

  /** How many layers or experts; lists of that length are made before the tensors are seen to be there. */
  pieces(name: string, absent: number): number {
    return this.count(name, absent, 10_000);
  }

  /** As `number`, where null is a value of its own. */
  maybeNumber(name: string, absent: number | null): number | null {
    return this.raw(name) === null
      ? null
      : absent === null && !this.has(name)
        ? null
        : this.number(name, absent ?? 0);
  }

  maybeCount(name: string, absent: number | null): number | null {
    return this.raw(name) === null
      ? null
      : absent === null && !this.has(name)
        ? null
        : this.count(name, absent ?? 1);
  }

  flag(name: string, absent: boolean): boolean {
    const value = this.raw(name);
    if (value === undefined) return absent;
    if (typeof value !== "boolean") throw this.bad(name, "true or false");
    return value;
  }

  text(name: string, absent: string): string {
    const value = this.raw(name);
    if (value === undefined) return absent;
    if (typeof value !== "string") throw this.bad(name, "a text");
    return value;
  }

  /** Null where the field is absent or null. */
  numbers(name: string): readonly number[] | null {
    const value = this.raw(name);
    if (value === undefined || value === null) return null;
    const isNumber = (item: Json): item is number => typeof item === "number" && Number.isFinite(item);
    if (!Array.isArray(value) || !value.every(isNumber)) throw this.bad(name, "a list of numbers");
    return value;
  }

  /** Null where the field is absent or null. */
  texts(name: string): readonly string[] | null {
    const value = this.raw(name);
    if (value === undefined || value === null) return null;
    const isText = (item: Json): item is string => typeof item === "string";
    if (!Array.isArray(value) || !value.every(isText)) throw this.bad(name, "a list of texts");
    return value;
  }

  /** An object inside; null where the field is absent, null or empty. */
  object(name: string): Fields | null {
    const value = this.raw(name);
    if (value === undefined || value === null) return null;
    if (!isJsonObject(value)) throw this.bad(name, "an object");
    return Object.keys(value).length === 0 ? null : new Fields(value, this.family, `${this.nameOf(name)}.`);
  }

  /** The field must be absent or have the only value that this family's computation knows. */
  fixed(name: string, value: Json, why: string): void {
    const found = this.raw(name);
    if (found !== undefined && found !== null && found !== value) {
      throw this.refused(name, `${why}; only ${JSON.stringify(value)} is understood`);
    }
  }

  /** BAD_CONFIG: a value of the wrong kind. */
  bad(name: string, wanted: string): AppError {
    const field = this.nameOf(name);
    return new AppError(
      "BAD_CONFIG",
      `config.json: ${field} must be ${wanted}, found ${excerpt(this.#values[name])}. ` +
        "Restore the file from the model's source.",
      { field, details: { modelType: this.family } },
    );
  }

  /** UNSUPPORTED_ARCHITECTURE: a value that would change the forward pass in a way that is not understood. */
  refused(name: string, why: string): AppError {
    const field = this.nameOf(name);
    const value = this.#values[name];
    const is = value === undefined ? field : `${field} = ${excerpt(value)}`;
    return unsupported(this.family, field, `config.json: ${is} (model_type "${this.family}"): ${why}.`);
  }

  /** Refuses the first field of `meanings` that has a telling value and that nobody read. */
  refuseUnread(meanings: Readonly<Record<string, readonly Json[]>>): void {
    for (const [name, neutral] of Object.entries(meanings)) {
      const value = this.#values[name];
      if (this.#read.has(name) || value === undefined || value === null) continue;
      if (!neutral.some((known) => JSON.stringify(known) === JSON.stringify(value))) {
        throw this.refused(
          name,
          "this field changes what a model computes, and this family does not read it",
        );
      }
    }
  }

  /** Refuses every set field that was not read. */
  refuseUnknown(): void {
    const unknown = Object.keys(this.#values).find(
      (name) => !this.#read.has(name) && this.#values[name] !== null,
    );
    if (unknown !== undefined) throw this.refused(unknown, "the field is not known here");
  }
}

/** UNSUPPORTED_ARCHITECTURE, with what to do instead. */
export function unsupported(family: string, field: string, what: string): AppError {
  return new AppError(
    "UNSUPPORTED_ARCHITECTURE",
    `${what} The model cannot be run here: logits, texts and tasks are not compared; structure and weights are.`,
    { field, details: { modelType: family } },
  );
}

function excerpt(value: Json | undefined): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}
