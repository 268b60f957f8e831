import type { Finding } from "../errors.ts";
import { fieldProblems, knownFields } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { readTargets } from "./module-names.ts";

/** `init_weights` says what training started from; the stored rows are whole. */
const FIELDS = { known: knownFields("token_indices init_weights") };

/**
 * TrainableTokens as a method of its own: rows of the embedding are replaced. The rows themselves are read beside every
 * kind (`tokens.ts`), so that what is left to say here is about the config.
 */
export function parseTrainableTokens(input: AdapterInput): ParsedAdapter {
  const bad: Finding[] = [];
  readTargets(input.config, (finding) => bad.push(finding));
  return { targets: [], problems: [...fieldProblems(input.config, FIELDS), ...bad], warnings: [] };
}
