import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Declared } from "../../src/core/decoder/tensors.ts";
import { AppError } from "../../src/core/errors.ts";
import type { JsonObject } from "../../src/core/json.ts";

const FIXTURES = resolve(import.meta.dirname, "../fixtures");

export interface DecoderFixture {
  readonly config: JsonObject;
  /** The same model in the fields of transformers 4; null where the case has no such file. */
  readonly legacy: JsonObject | null;
  readonly tensors: Map<string, Declared>;
}

/** Config and tensors of a case in fixtures/forward. */
export function decoderFixture(name: string): DecoderFixture {
  const folder = join(FIXTURES, "forward", name);
  const { base } = json(join(folder, "case.json")) as { base: string };
  const legacy = join(folder, "config_legacy.json");
  return {
    ...modelFixture(join(folder, base)),
    legacy: existsSync(legacy) ? json(legacy) : null,
  };
}

/** Config and tensors of a folder in fixtures/models, or of a path. */
export function modelFixture(folder: string): Pick<DecoderFixture, "config" | "tensors"> {
  const path = resolve(FIXTURES, "models", folder);
  const file = readFileSync(join(path, "model.safetensors"));
  const header = JSON.parse(file.subarray(8, 8 + Number(file.readBigUInt64LE(0))).toString()) as Record<
    string,
    Declared
  >;
  delete header.__metadata__;
  return { config: json(join(path, "config.json")), tensors: new Map(Object.entries(header)) };
}

function json(path: string): JsonObject {
  return JSON.parse(readFileSync(path, "utf8")) as JsonObject;
}

/** The same tensors under other names; null leaves one out. */
export function renamed(
  tensors: ReadonlyMap<string, Declared>,
  name: (name: string) => string | null,
): Map<string, Declared> {
  const changed = new Map<string, Declared>();
  for (const [old, tensor] of tensors) {
    const to = name(old);
    if (to !== null) changed.set(to, tensor);
  }
  return changed;
}

/** The error that `work` throws. */
export function refused(work: () => unknown): { code: string; field: string | undefined; message: string } {
  try {
    work();
  } catch (error) {
    if (error instanceof AppError) return { code: error.code, field: error.field, message: error.message };
    throw error;
  }
  throw new Error("nothing was refused");
}

/**
 * A checkpoint with every tensor that reading asks for, in the shape it asks for; sizes left open are 7. `layer` is how
 * the names of the first layer begin.
 */
export function checkpointFor(
  read: (tensors: ReadonlyMap<string, Declared>) => unknown,
  layer: string,
): Map<string, Declared> {
  const tensors = new Map<string, Declared>([
    // A buffer that is passed over.
    [`${layer}rotary_emb.inv_freq`, { dtype: "F32", shape: [8] }],
  ]);
  for (let tries = 0; tries < 5000; tries++) {
    try {
      read(tensors);
      return tensors;
    } catch (error) {
      const { tensor, expected } = (error as AppError).details ?? {};
      if (typeof tensor !== "string" || typeof expected !== "string") throw error;
      tensors.set(tensor, { dtype: "F32", shape: JSON.parse(expected.replaceAll("any", "7")) as number[] });
    }
  }
  throw new Error("there was no end of missing tensors");
}
