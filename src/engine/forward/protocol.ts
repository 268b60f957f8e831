import type { WorkerError } from "../pool.ts";
import type { Comparison } from "./compare.ts";
import type { TokenSequence } from "./sequences.ts";
import type { ForwardSetup } from "./session.ts";

/** What the process that runs models is asked for; once a process. */
export type ToForward = { readonly setup: ForwardSetup } & (
  | {
      readonly type: "compare";
      readonly sequences: readonly TokenSequence[];
      readonly otherSequences: number;
      readonly chunkTokens: number;
    }
  /** Raw numbers of the first side, one sequence after another. */
  | { readonly type: "logits"; readonly sequences: readonly Int32Array[]; readonly hidden: boolean }
  | {
      readonly type: "generate";
      readonly prompts: readonly Int32Array[];
      readonly maxNewTokens: number;
      readonly ends: readonly number[];
    }
  /** Time that a prompt and each token after it take, side by side, in milliseconds. */
  | { readonly type: "measure"; readonly prompt: Int32Array; readonly newTokens: number }
);

/** Sent for each tensor that was taken: raw numbers of a long text are larger than memory. */
export type Taken = { readonly type: "taken" };

/** Raw numbers of one sequence. */
export interface RawTensor {
  /** "logits", "embed", "hidden.0", …, "final". */
  readonly name: string;
  readonly sequence: number;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface SideTimes {
  /** First token of a prompt of one token: weights are read and widened, and run once. */
  readonly load: number;
  /** First token of the prompt, weights loaded as far as they are kept. */
  readonly prefill: number;
  /** Mean over the tokens after the prompt. */
  readonly perToken: number;
}

export type FromForward =
  | { readonly type: "progress"; readonly done: number; readonly total: number }
  | { readonly type: "tensor"; readonly tensor: RawTensor }
  /** One token of each side and prompt; null where a text has ended. */
  | { readonly type: "tokens"; readonly next: readonly (readonly (number | null)[])[] }
  | {
      readonly type: "compared";
      readonly comparison: Comparison;
      readonly runtime: string;
      readonly peakBytes: number;
    }
  | { readonly type: "generated"; readonly texts: readonly (readonly (readonly number[])[])[] }
  | { readonly type: "measured"; readonly sides: readonly SideTimes[] }
  | { readonly type: "done" }
  | { readonly type: "failed"; readonly error: WorkerError };
