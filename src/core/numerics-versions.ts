/*
 * Apart from the recipes that name them: threads that compute need the names, not the schema of a recipe.
 */

/** Version of the canonical arithmetic (ARCHITECTURE.md): PEFT's on a CPU. A change of any bit is a new name. */
export const NUMERICS = "peft-1";
/** Version of the exact arithmetic: float64 on the way, one rounding into the storage type. */
export const EXACT_NUMERICS = "exact-1";

export type NumericsVersion = typeof NUMERICS | typeof EXACT_NUMERICS;
