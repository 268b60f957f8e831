import { z } from "zod";
import { type DeviceUse, ONNX_DEVICES } from "./devices.ts";
import { AppError } from "./errors.ts";
import { type Digest, isDigest } from "./identity.ts";
import { NUMERICS } from "./numerics-versions.ts";
import { parseRecipe, type Recipe, recipeDigest } from "./recipe.ts";

/** Name and version written into records; the version is the package's. */
export const ENGINE = { name: "graftwork", version: "0.1.0", numerics: NUMERICS } as const;

const digest = z.custom<Digest>(isDigest, "must be sha256: and 64 lower-case hex digits");
const hint = z.strictObject({ path: z.string().optional(), ref: z.string().optional() });

const count = z.int().nonnegative();
const deviceUse = z.strictObject({
  device: z.enum(ONNX_DEVICES),
  provider: z.string(),
  name: z.string().nullable(),
  version: z.string(),
  tensors: count,
  onCpu: count,
  differing: count,
  elements: count,
  maxUlp: z.number().nonnegative(),
}) satisfies z.ZodType<DeviceUse>;

const schema = z.strictObject({
  schema: z.literal(1),
  recipe: z.unknown(),
  recipeDigest: digest,
  output: z.strictObject({
    version: digest,
    weights: digest,
    /** Tensor name → digest of its bytes. */
    tensors: z.record(z.string(), digest),
  }),
  engine: z.strictObject({ name: z.string(), version: z.string(), numerics: z.string() }),
  /** What computed it, and how near it is to the canonical value; absent where it is the canonical value. */
  device: deviceUse.optional(),
  hints: z.strictObject({ base: hint, sources: z.array(hint) }),
});

/** What `deviceUse` says of a value that was stored elsewhere. @throws ZodError: only we write it */
export function parseDeviceUse(value: unknown): DeviceUse {
  return deviceUse.parse(value);
}

/** Where an input may be found again: a folder on this machine, a reference in a registry. */
export type InputHint = z.infer<typeof hint>;

/** `graftwork.json` of a merged folder: what was merged, into what, by which arithmetic. */
export interface MergeRecord extends Omit<z.infer<typeof schema>, "recipe"> {
  readonly recipe: Recipe;
}

/** @throws BAD_RECORD or BAD_RECIPE naming the field */
export function parseMergeRecord(value: unknown, file = "graftwork.json"): MergeRecord {
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const field = issue?.path.join(".") ?? "";
    throw new AppError("BAD_RECORD", `${file}: field "${field}" ${issue?.message ?? "is wrong"}.`, { field });
  }
  const recipe = parseRecipe(parsed.data.recipe, `${file} recipe`);
  const digest = recipeDigest(recipe);
  if (digest !== parsed.data.recipeDigest) {
    throw new AppError(
      "BAD_RECORD",
      `${file}: its recipe has digest ${digest}, but recipeDigest says ${parsed.data.recipeDigest}: one of the two was changed. Restore the file, or merge again.`,
      { field: "recipeDigest" },
    );
  }
  return { ...parsed.data, recipe };
}
