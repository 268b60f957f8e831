import { AppError } from "../errors.ts";
import type { MergeMethod } from "./index.ts";

/** Plain addition of one adapter's change to the base. Several adapters at once come with other methods. */
export const addMethod: MergeMethod = {
  name: "add",
  version: 1,
  combine(sources, weights) {
    const [only, ...more] = sources;
    if (!only || more.length > 0) {
      throw new AppError(
        "UNSUPPORTED_RECIPE",
        `sources: this release merges one adapter at a time, found ${sources.length}. Merge one, then merge the next into the result.`,
        { field: "sources" },
      );
    }
    if (weights[0] !== 1) {
      throw new AppError("UNSUPPORTED_RECIPE", `sources[0].weight: must be 1, found ${weights[0]}.`, {
        field: "sources.0.weight",
      });
    }
    return only.targets;
  },
};
