/** Values of the API as JSON carries them. */

export type ModelKind = "BASE" | "ADAPTER" | "MERGED" | "QUANTIZED";
export type JobState = "QUEUED" | "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED";
export type MergeState = JobState;
export type Verdict = "PASSED" | "WARNED" | "FAILED";
export type EvaluationState = JobState;
export type EvaluationVerdict = "PASSED" | "FAILED" | "INCONCLUSIVE";
export type Device = "CPU" | "WEBGPU" | "CUDA" | "COREML" | "DML" | "ONNX_CPU";
export type Role = "BASE" | "ADAPTER";
export type Relation = "TRAINED_ON" | "MERGED_FROM";
export type JobEventType =
  | "QUEUED"
  | "CLAIMED"
  | "STAGE"
  | "PROGRESS_NOTE"
  | "WARNING"
  | "RETRYING"
  | "SUCCEEDED"
  | "FAILED"
  | "CANCELLED";

export interface Finding {
  readonly code: string;
  readonly message: string;
  readonly subject: string | null;
}

export interface UserError {
  readonly code: string;
  readonly field: readonly string[] | null;
  readonly message: string;
}

export interface PageInfo {
  readonly hasNextPage: boolean;
  readonly endCursor: string | null;
}

/** One way of saying which version. */
export type VersionRef =
  /** `owner/name`, `owner/name@7`, `@sha256:…` */
  | { readonly ref: string; readonly digest?: never; readonly id?: never }
  | { readonly digest: string; readonly ref?: never; readonly id?: never }
  | { readonly id: string; readonly ref?: never; readonly digest?: never };

/** Modules of an adapter: names or ends of names, or one pattern for whole names; and layers. */
export interface ModuleSelection {
  readonly modules?: readonly string[] | null;
  readonly pattern?: string | null;
  readonly layers?: readonly number[] | null;
}

export interface RecipeChoices {
  readonly dtype?: "BF16" | "F16" | "F32" | null;
  readonly numerics?: "PEFT" | "EXACT";
  readonly ties?: "PRESERVE" | "PEFT";
  readonly include?: ModuleSelection | null;
  readonly exclude?: ModuleSelection | null;
}

export interface MergePlanInput {
  readonly base: { readonly version: VersionRef; readonly pin?: string | null };
  readonly sources: readonly {
    readonly version: VersionRef;
    readonly weight?: number;
    readonly pin?: string | null;
  }[];
  readonly tokenizer?: Role | null;
  readonly choices?: RecipeChoices | null;
  readonly strictBase?: boolean;
}

export interface MergeStartInput extends MergePlanInput {
  readonly output: { readonly model: string };
  readonly force?: boolean;
  /** Evaluate the result under this gate as soon as there is one. */
  readonly gate?: string | null;
  /** For that evaluation. */
  readonly texts?: Jsonl | null;
  readonly idempotencyKey: string;
}

export interface ModelImportInput {
  readonly source: { readonly local: string };
  readonly model: string;
  readonly base?: VersionRef | null;
  readonly visibility?: "PUBLIC" | "PRIVATE";
  readonly idempotencyKey: string;
}

/** JSON Lines with a name for reports. */
export interface Jsonl {
  readonly name?: string | null;
  readonly jsonl: string;
}

/** How a reference would be merged. */
export interface EvaluationRecipe {
  readonly tokenizer?: Role | null;
  readonly choices?: RecipeChoices | null;
}

export interface EvaluationStartInput {
  readonly reference: {
    readonly base: VersionRef;
    readonly sources: readonly { readonly version: VersionRef; readonly weight?: number }[];
  };
  readonly candidate:
    | { readonly version: VersionRef; readonly recipe?: never }
    | { readonly recipe: EvaluationRecipe; readonly version?: never };
  readonly expected?: EvaluationRecipe | null;
  readonly texts?:
    | { readonly builtIn: true; readonly jsonl?: never }
    | { readonly jsonl: Jsonl; readonly builtIn?: never }
    | null;
  readonly prompts?: readonly string[] | null;
  readonly tasks?: Jsonl | null;
  readonly gate?: string;
  readonly device?: Device;
  readonly seed?: number | null;
  readonly window?: number | null;
  readonly stride?: number | null;
  readonly chatTemplate?: boolean | null;
  readonly floorTokens?: number | null;
  readonly maxNewTokens?: number | null;
  readonly idempotencyKey: string;
}

/** Every side of what is served; absent: recorded, or not written yet. */
export interface ServingSides {
  readonly base?: VersionRef | null;
  readonly sources: readonly { readonly version: VersionRef; readonly weight?: number }[];
  readonly merged?: VersionRef | null;
  readonly recipe?: EvaluationRecipe | null;
}

export interface ServingAdviceStartInput {
  /** An adapter or a version that was merged here, or every side. */
  readonly of:
    | { readonly version: VersionRef; readonly sides?: never }
    | { readonly sides: ServingSides; readonly version?: never };
  /** Adapters of this base that will be served; default 1. */
  readonly adapters?: number;
  readonly texts?: EvaluationStartInput["texts"];
  readonly gate?: string;
  readonly device?: Device;
  readonly idempotencyKey: string;
}

export interface MergeVerifyInput {
  readonly version: VersionRef;
  readonly idempotencyKey: string;
}
