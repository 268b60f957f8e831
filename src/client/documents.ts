import { type Document, document } from "./document.ts";
import type {
  EvaluationStartInput,
  EvaluationState,
  EvaluationVerdict,
  Finding,
  JobEventType,
  JobState,
  MergePlanInput,
  MergeStartInput,
  MergeState,
  MergeVerifyInput,
  ModelImportInput,
  ModelKind,
  PageInfo,
  Relation,
  Role,
  UserError,
  Verdict,
} from "./types.ts";

/*
 * What this package's users ask for. test/client/documents.test.ts derives each answer's type from schema.graphql and
 * has the compiler compare it with the one written here.
 */

type Nothing = Readonly<Record<string, never>>;

export const viewerQuery: Document<
  { readonly viewer: { readonly id: string; readonly name: string; readonly isAdmin: boolean } | null },
  Nothing
> = document(`query Viewer { viewer { id name isAdmin } }`);

export interface ModelRow {
  readonly id: string;
  readonly name: string;
  readonly kind: ModelKind;
  readonly versionCount: number;
  readonly latestVersion: { readonly ref: string; readonly digest: string } | null;
}

export const modelsQuery: Document<
  { readonly models: { readonly nodes: readonly (ModelRow | null)[]; readonly pageInfo: PageInfo } | null },
  { readonly kind?: ModelKind | null; readonly first?: number | null; readonly after?: string | null }
> = document(`
  query Models($kind: ModelKind, $first: Int, $after: String) {
    models(kind: $kind, first: $first, after: $after) {
      nodes { id name kind versionCount latestVersion { ref digest } }
      pageInfo { hasNextPage endCursor }
    }
  }
`);

export interface LineageVersion {
  readonly id: string;
  readonly ref: string;
  readonly kind: ModelKind;
}

export interface LineageEdge {
  readonly relation: Relation;
  readonly role: Role;
  readonly weight: number | null;
  readonly parentDigest: string;
  readonly recipeDigest: string | null;
  readonly depth: number;
  readonly parent: LineageVersion | null;
  readonly child: LineageVersion | null;
}

interface LineageSide {
  readonly edges: readonly LineageEdge[];
  readonly pageInfo: PageInfo;
}

export interface VersionFacts {
  readonly id: string;
  readonly ref: string;
  readonly number: number;
  readonly kind: ModelKind;
  readonly digest: string;
  readonly weightsDigest: string;
  /** Decimal text: JSON numbers lose digits beyond 2⁵³. */
  readonly sizeBytes: string;
  readonly parameters: string;
  readonly tensorCount: number;
  readonly dtype: string;
  readonly architecture: string | null;
  readonly hasCode: boolean;
  readonly location: string | null;
  readonly warnings: readonly Finding[];
  readonly recipe: { readonly digest: string; readonly document: unknown } | null;
  readonly merge: {
    readonly id: string;
    readonly state: MergeState;
    readonly verdict: Verdict | null;
  } | null;
  readonly parents: LineageSide | null;
  readonly ancestors: LineageSide | null;
  readonly descendants: LineageSide | null;
}

export const versionQuery: Document<{ readonly version: VersionFacts | null }, { readonly ref: string }> =
  document(`
  query Version($ref: String!) {
    version(ref: $ref) {
      id ref number kind digest weightsDigest sizeBytes parameters tensorCount dtype architecture hasCode location
      warnings { code message subject }
      recipe { digest document }
      merge { id state verdict }
      parents(first: 100) { ...Side }
      ancestors(first: 100) { ...Side }
      descendants(first: 100) { ...Side }
    }
  }
  fragment Side on LineageConnection {
    edges {
      relation role weight parentDigest recipeDigest depth
      parent { id ref kind }
      child { id ref kind }
    }
    pageInfo { hasNextPage endCursor }
  }
`);

export interface TensorFacts {
  readonly name: string;
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly string[];
  readonly digest: string | null;
  readonly absmax: number | null;
  readonly rms: number | null;
}

export const tensorsQuery: Document<
  {
    readonly version: {
      readonly tensors: {
        readonly nodes: readonly (TensorFacts | null)[];
        readonly totalCount: number;
        readonly pageInfo: PageInfo;
      } | null;
    } | null;
  },
  { readonly ref: string; readonly first?: number | null; readonly after?: string | null }
> = document(`
  query Tensors($ref: String!, $first: Int, $after: String) {
    version(ref: $ref) {
      tensors(first: $first, after: $after) {
        nodes { name file dtype shape digest absmax rms }
        totalCount
        pageInfo { hasNextPage endCursor }
      }
    }
  }
`);

export interface PlanFacts {
  readonly runnable: boolean;
  readonly refusals: readonly Finding[];
  readonly warnings: readonly Finding[];
  readonly recipe: { readonly digest: string } | null;
  readonly tensorCount: number;
  readonly touchedCount: number;
  readonly bytesToRead: string;
  readonly bytesToWrite: string;
  readonly tokenizer: { readonly from: Role; readonly differences: readonly string[] };
  readonly outputs: readonly { readonly path: string; readonly sizeBytes: string }[];
  /** `from` is null for a file that the plan changes, such as config.json. */
  readonly files: readonly {
    readonly path: string;
    readonly from: Role | null;
    readonly sizeBytes: string;
  }[];
  readonly cachedVersion: { readonly ref: string } | null;
}

export const mergePlanQuery: Document<
  { readonly mergePlan: { readonly plan: PlanFacts | null; readonly userErrors: readonly UserError[] } },
  { readonly input: MergePlanInput }
> = document(`
  query MergePlan($input: MergePlanInput!) {
    mergePlan(input: $input) {
      plan {
        runnable
        refusals { code message subject }
        warnings { code message subject }
        recipe { digest }
        tensorCount touchedCount bytesToRead bytesToWrite
        tokenizer { from differences }
        outputs { path sizeBytes }
        files { path from sizeBytes }
        cachedVersion { ref }
      }
      userErrors { code field message }
    }
  }
`);

/** A mutation that started a job, or says why not. */
export interface Started {
  readonly job: { readonly id: string; readonly state: JobState } | null;
  readonly userErrors: readonly UserError[];
}

export const modelImportMutation: Document<
  { readonly modelImport: Started },
  { readonly input: ModelImportInput }
> = document(`
  mutation ModelImport($input: ModelImportInput!) {
    modelImport(input: $input) { job { id state } userErrors { code field message } }
  }
`);

export const mergeStartMutation: Document<
  {
    readonly mergeStart: Started & {
      readonly merge: { readonly id: string; readonly state: MergeState } | null;
    };
  },
  { readonly input: MergeStartInput }
> = document(`
  mutation MergeStart($input: MergeStartInput!) {
    mergeStart(input: $input) { merge { id state } job { id state } userErrors { code field message } }
  }
`);

export const mergeVerifyMutation: Document<
  { readonly mergeVerify: Started },
  { readonly input: MergeVerifyInput }
> = document(`
  mutation MergeVerify($input: MergeVerifyInput!) {
    mergeVerify(input: $input) { job { id state } userErrors { code field message } }
  }
`);

export const jobCancelMutation: Document<
  { readonly jobCancel: Started },
  { readonly input: { readonly job: string } }
> = document(`
  mutation JobCancel($input: JobCancelInput!) {
    jobCancel(input: $input) { job { id state } userErrors { code field message } }
  }
`);

export interface JobProgress {
  readonly stage: string | null;
  readonly done: string;
  readonly total: string;
  readonly unit: string;
  readonly fraction: number | null;
}

export interface ResultVersion {
  readonly id: string;
  readonly ref: string;
  readonly digest: string;
  readonly location: string | null;
}

export type JobResult =
  | { readonly __typename: "ImportResult"; readonly version: ResultVersion | null }
  | {
      readonly __typename: "MergeResult";
      readonly version: ResultVersion | null;
      readonly cached: boolean | null;
      readonly merge: { readonly id: string; readonly verdict: Verdict | null } | null;
    }
  | {
      readonly __typename: "VerifyResult";
      readonly verdict: Verdict | null;
      readonly merge: {
        readonly id: string;
        readonly verification: { readonly report: unknown } | null;
      } | null;
    }
  | { readonly __typename: "EvaluationResult"; readonly evaluation: EvaluationOutcome | null }
  | { readonly __typename: "ServingAdviceResult"; readonly advice: AdviceOutcome | null };

export interface AdviceOutcome {
  readonly id: string;
  readonly recommendation: "MERGE" | "SEPARATE";
  readonly reasons: readonly { readonly code: string; readonly message: string }[];
}

export interface EvaluationOutcome {
  readonly id: string;
  readonly verdict: EvaluationVerdict | null;
  readonly reasons: readonly { readonly code: string; readonly message: string }[];
  /** A page with `.html` after it, JSON with `.json`, Markdown with `.md`. */
  readonly reportPath: string | null;
}

export interface JobFacts {
  readonly id: string;
  readonly kind: "IMPORT_VERSION" | "RUN_MERGE" | "VERIFY_MERGE" | "RUN_EVALUATION" | "MEASURE_SERVING";
  readonly state: JobState;
  readonly attempt: number;
  readonly progress: JobProgress | null;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly reasons: readonly Finding[];
  } | null;
  readonly result: JobResult | null;
}

/** A mean over documents with its standard error and 95 % interval. */
export interface Metric {
  readonly value: number;
  readonly standardError: number | null;
  readonly lower: number | null;
  readonly upper: number | null;
}

export interface EvaluationFacts extends EvaluationOutcome {
  readonly state: EvaluationState;
  readonly gate: { readonly ref: string };
  readonly logits: {
    readonly documents: number;
    readonly meanKld: Metric;
    readonly sameTop: Metric;
    readonly perplexityRatio: Metric | null;
    readonly timesFloor: number | null;
  } | null;
  readonly logitsSkipped: string | null;
  readonly report: unknown;
}

export const evaluationQuery: Document<
  { readonly evaluation: EvaluationFacts | null },
  { readonly id: string }
> = document(`
  query Evaluation($id: ID!) {
    evaluation(id: $id) {
      id state verdict reasons { code message } reportPath gate { ref }
      logits { documents meanKld { ...M } sameTop { ...M } perplexityRatio { ...M } timesFloor }
      logitsSkipped report
    }
  }
  fragment M on Metric { value standardError lower upper }
`);

export const evaluationStartMutation: Document<
  { readonly evaluationStart: Started & { readonly evaluation: { readonly id: string } | null } },
  { readonly input: EvaluationStartInput }
> = document(`
  mutation EvaluationStart($input: EvaluationStartInput!) {
    evaluationStart(input: $input) {
      evaluation { id } job { id state } userErrors { code field message }
    }
  }
`);

export const jobQuery: Document<{ readonly job: JobFacts | null }, { readonly id: string }> = document(`
  query Job($id: ID!) {
    job(id: $id) {
      id kind state attempt
      progress { stage done total unit fraction }
      error { code message reasons { code message subject } }
      result {
        __typename
        ... on ImportResult { version { ...Made } }
        ... on MergeResult { version { ...Made } cached merge { id verdict } }
        ... on VerifyResult { verdict merge { id verification { report } } }
        ... on EvaluationResult { evaluation { id verdict reasons { code message } reportPath } }
        ... on ServingAdviceResult { advice { id recommendation reasons { code message } } }
      }
    }
  }
  fragment Made on Version { id ref digest location }
`);

export interface JobEvent {
  /** For `after`. */
  readonly cursor: string;
  /** Counts from 1 within the job, without gaps. */
  readonly number: number;
  readonly type: JobEventType;
  readonly at: string;
  readonly data: unknown;
}

export const jobEventsSubscription: Document<
  { readonly jobEvents: JobEvent },
  { readonly jobId: string; readonly after?: string | null }
> = document(`
  subscription JobEvents($jobId: ID!, $after: String) {
    jobEvents(jobId: $jobId, after: $after) { cursor number type at data }
  }
`);
