import type { Finding } from "../core/errors.ts";
import type { Timings } from "./task-io.ts";

export type Stage =
  | "digest"
  | "merge"
  | "check"
  | "sync"
  | "verify"
  // Of an evaluation: its levels.
  | "weights"
  | "logits"
  | "text"
  | "tasks"
  // Of an advice: timing both sides.
  | "measure";

/** What long work tells while it runs; the CLI draws it, a job stores it, a test collects it. */
export type EngineEvent =
  | { readonly type: "stage"; readonly stage: Stage; readonly message: string }
  /** Bytes done of all bytes of the stage; of an evaluation's levels from 2 on, steps of all steps. */
  | { readonly type: "progress"; readonly stage: Stage; readonly done: number; readonly total: number }
  | { readonly type: "warning"; readonly finding: Finding };

/** Where a crash is provoked in tests (`GRAFTWORK_FAILPOINT`). */
export const FAILPOINTS = [
  "after-plan",
  "mid-tensor",
  "after-shard",
  "after-sync",
  "after-rename",
  "after-record",
] as const;
export type Failpoint = (typeof FAILPOINTS)[number];

export interface EngineOptions {
  /** Worker threads. */
  readonly threads: number;
  readonly signal?: AbortSignal;
  readonly failpoint?: Failpoint;
  /**
   * Folder that remembers the digests of files by their state, so that an unchanged base is not hashed again; absent:
   * every tensor is read for its digest.
   */
  readonly cache?: string;
  /** Called at the end of each run of the threads, with milliseconds summed over all of them. */
  readonly timings?: (timings: Timings) => void;
}

/** Ends the process as kill -9 does, when this is the place asked for. */
export function failAt(point: Failpoint, wanted: Failpoint | undefined): void {
  if (point === wanted) process.kill(process.pid, "SIGKILL");
}

/** A folder and what is known of it. */
export interface Located {
  readonly folder: string;
  readonly facts: import("../core/checkpoint.ts").CheckpointFacts;
  /** Written by Graftwork and by nobody since: its files may be linked instead of copied. Default: no. */
  readonly immutable?: boolean;
}
