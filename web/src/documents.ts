import { type Document, document } from "../../src/client/document.ts";
import type { JobFacts, PlanFacts } from "../../src/client/documents.ts";
import type {
  Finding,
  MergePlanInput,
  MergeStartInput,
  MergeVerifyInput,
  ModelImportInput,
  ModelKind,
  PageInfo,
  Relation,
  Role,
  UserError,
  Verdict,
} from "../../src/client/types.ts";
import type { EvaluationRow, FollowedEvaluation } from "./evaluation-documents.ts";

/** What the pages ask for, each in one request. test/web/documents.test.ts holds them against schema.graphql. */

/** A mutation's refusal; a refused plan gives every reason. */
export interface Refusal extends UserError {
  readonly reasons?: readonly Finding[];
}

export interface Viewer {
  readonly name: string;
  readonly isAdmin: boolean;
}

export const viewerDocument: Document<{ viewer: Viewer | null }, Record<string, never>> = document(`
  query ConsoleViewer { viewer { name isAdmin } }
`);

export interface ModelRow {
  readonly id: string;
  readonly name: string;
  readonly kind: ModelKind;
  readonly visibility: "PUBLIC" | "PRIVATE";
  readonly versionCount: number;
  readonly updatedAt: string;
  readonly latestVersion: {
    readonly ref: string;
    readonly number: number;
    readonly sizeBytes: string;
    readonly parameters: string;
    readonly dtype: string;
  } | null;
}

export interface ModelsData {
  readonly models: {
    readonly nodes: readonly (ModelRow | null)[];
    readonly pageInfo: PageInfo;
    readonly totalCount: number | null;
  } | null;
}

export interface ModelsVariables {
  readonly kind: ModelKind | null;
  readonly after: string | null;
  readonly first: number;
}

export const modelsDocument: Document<ModelsData, ModelsVariables> = document(`
  query ConsoleModels($kind: ModelKind, $first: Int, $after: String) {
    models(kind: $kind, first: $first, after: $after) {
      nodes {
        id name kind visibility versionCount updatedAt
        latestVersion { ref number sizeBytes parameters dtype }
      }
      pageInfo { hasNextPage endCursor }
      totalCount
    }
  }
`);

export interface VersionData {
  readonly version: {
    readonly ref: string;
    readonly number: number;
    readonly kind: ModelKind;
    readonly origin: "IMPORTED" | "MERGED";
    readonly digest: string;
    readonly weightsDigest: string;
    readonly sizeBytes: string;
    readonly parameters: string;
    readonly tensorCount: number;
    readonly dtype: string;
    readonly architecture: string | null;
    readonly modelType: string | null;
    readonly adapterConfig: unknown;
    readonly hasCode: boolean;
    readonly warnings: readonly Finding[];
    readonly createdAt: string;
    readonly location: string | null;
    readonly model: {
      readonly name: string;
      readonly visibility: "PUBLIC" | "PRIVATE";
      readonly viewerCanEdit: boolean;
      readonly versions: {
        readonly nodes: readonly ({
          readonly ref: string;
          readonly number: number;
          readonly createdAt: string;
        } | null)[];
        readonly totalCount: number | null;
      } | null;
    } | null;
    readonly parents: {
      readonly edges: readonly {
        readonly relation: Relation;
        readonly role: Role;
        readonly weight: number | null;
        readonly node: { readonly ref: string; readonly location: string | null } | null;
      }[];
    } | null;
    readonly files: {
      readonly nodes: readonly ({
        readonly path: string;
        readonly role: string;
        readonly size: string;
        readonly digest: string | null;
      } | null)[];
      readonly totalCount: number | null;
    } | null;
    readonly recipe: { readonly digest: string; readonly document: unknown } | null;
    readonly evaluations: {
      readonly nodes: readonly (EvaluationRow | null)[];
      readonly pageInfo: PageInfo;
    } | null;
    readonly merge: {
      readonly verdict: Verdict | null;
      readonly device: string;
      readonly threads: number | null;
      readonly engineVersion: string | null;
      readonly startedAt: string | null;
      readonly finishedAt: string | null;
      readonly report: {
        readonly checks: readonly {
          readonly name: string;
          readonly passed: boolean;
          readonly detail: string;
        }[];
        readonly warnings: readonly Finding[];
      } | null;
      readonly verification: { readonly at: string; readonly report: unknown } | null;
      readonly jobs: {
        readonly nodes: readonly ({
          readonly id: string;
          readonly kind: JobFacts["kind"];
          readonly state: JobFacts["state"];
        } | null)[];
      } | null;
    } | null;
  } | null;
}

export type VersionFacts = NonNullable<VersionData["version"]>;

export const versionDocument: Document<VersionData, { ref: string }> = document(`
  query ConsoleVersion($ref: String!) {
    version(ref: $ref) {
      ref number kind origin digest weightsDigest sizeBytes parameters tensorCount dtype
      architecture modelType adapterConfig hasCode warnings { code message subject } createdAt location
      model {
        name visibility viewerCanEdit
        versions(first: 20) { nodes { ref number createdAt } totalCount }
      }
      parents(first: 20) { edges { relation role weight node { ref location } } }
      files(first: 100) { nodes { path role size digest } totalCount }
      recipe { digest document }
      evaluations(first: 10) {
        nodes {
          id state verdict createdAt reportPath reasons { code } gate { ref }
          inputs { role version { ref } }
          logits { meanKld { value standardError } timesFloor }
          job { id }
        }
        pageInfo { hasNextPage endCursor }
      }
      merge {
        verdict device threads engineVersion startedAt finishedAt
        report { checks { name passed detail } warnings { code message subject } }
        verification { at report }
        jobs(first: 5) { nodes { id kind state } }
      }
    }
  }
`);

export interface LineageVersion {
  readonly id: string;
  readonly ref: string;
  readonly kind: ModelKind;
  readonly parameters: string;
  readonly dtype: string;
}

export interface LineageEdgeRow {
  readonly relation: Relation;
  readonly role: Role;
  readonly weight: number | null;
  readonly parent: LineageVersion | null;
  readonly child: LineageVersion | null;
}

export interface LineageData {
  readonly version:
    | (LineageVersion & {
        readonly ancestors: LineageSide | null;
        readonly descendants: LineageSide | null;
        readonly lineageCounts: {
          readonly ancestors: number;
          readonly descendants: number;
          readonly truncated: boolean;
        } | null;
      })
    | null;
}

export interface LineageSide {
  readonly edges: readonly LineageEdgeRow[];
  readonly pageInfo: { readonly hasNextPage: boolean };
}

export const lineageDocument: Document<LineageData, { ref: string }> = document(`
  query ConsoleLineage($ref: String!) {
    version(ref: $ref) {
      ...Shown
      ancestors(first: 100) { edges { ...Edge } pageInfo { hasNextPage } }
      descendants(first: 100) { edges { ...Edge } pageInfo { hasNextPage } }
      lineageCounts { ancestors descendants truncated }
    }
  }
  fragment Edge on LineageEdge { relation role weight parent { ...Shown } child { ...Shown } }
  fragment Shown on Version { id ref kind parameters dtype }
`);

export interface TensorRow {
  readonly name: string;
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly string[];
  readonly sizeBytes: string;
  readonly digest: string | null;
  readonly absmax: number | null;
  readonly rms: number | null;
  readonly nonFinite: number | null;
}

export interface TensorsData {
  readonly version: {
    readonly tensors: {
      readonly nodes: readonly (TensorRow | null)[];
      readonly pageInfo: PageInfo;
      readonly totalCount: number | null;
    } | null;
  } | null;
}

export const tensorsDocument: Document<TensorsData, { ref: string; first: number; after: string | null }> =
  document(`
  query ConsoleTensors($ref: String!, $first: Int, $after: String) {
    version(ref: $ref) {
      tensors(first: $first, after: $after) {
        nodes { name file dtype shape sizeBytes digest absmax rms nonFinite }
        pageInfo { hasNextPage endCursor }
        totalCount
      }
    }
  }
`);

export interface PlanData {
  readonly mergePlan: {
    readonly plan: Plan | null;
    readonly userErrors: readonly Refusal[];
  };
}

/** What every client is told of a plan, less the small files, and a few of the tensors it touches. */
export interface Plan extends Omit<PlanFacts, "files"> {
  /** Adapted modules that include and exclude leave as they are. */
  readonly leftOut: readonly string[];
  readonly touched: {
    readonly nodes: readonly ({
      readonly tensor: string;
      readonly rank: number | null;
      readonly scale: number | null;
      /** "LoRA", "DoRA", "IA3", "bias", … */
      readonly change: string;
    } | null)[];
  } | null;
}

const USER_ERRORS =
  "userErrors { code field message ... on PlanRefused { reasons { code message subject } } }";

export const planDocument: Document<PlanData, { input: MergePlanInput }> = document(`
  query ConsolePlan($input: MergePlanInput!) {
    mergePlan(input: $input) {
      plan {
        runnable refusals { code message subject } warnings { code message subject }
        recipe { digest } tensorCount touchedCount bytesToRead bytesToWrite
        tokenizer { from differences }
        leftOut touched(first: 5) { nodes { tensor change rank scale } }
        outputs { path sizeBytes }
        cachedVersion { ref }
      }
      ${USER_ERRORS}
    }
  }
`);

export interface StartedJob {
  readonly job: { readonly id: string } | null;
  readonly userErrors: readonly Refusal[];
}

export const mergeStartDocument: Document<{ mergeStart: StartedJob }, { input: MergeStartInput }> = document(`
  mutation ConsoleMergeStart($input: MergeStartInput!) {
    mergeStart(input: $input) { job { id } ${USER_ERRORS} }
  }
`);

export const mergeVerifyDocument: Document<{ mergeVerify: StartedJob }, { input: MergeVerifyInput }> =
  document(`
  mutation ConsoleMergeVerify($input: MergeVerifyInput!) {
    mergeVerify(input: $input) { job { id } ${USER_ERRORS} }
  }
`);

export const modelImportDocument: Document<{ modelImport: StartedJob }, { input: ModelImportInput }> =
  document(`
  mutation ConsoleImport($input: ModelImportInput!) {
    modelImport(input: $input) { job { id } ${USER_ERRORS} }
  }
`);

export const jobCancelDocument: Document<
  { jobCancel: { readonly userErrors: readonly Refusal[] } },
  { input: { job: string } }
> = document(`
  mutation ConsoleCancel($input: JobCancelInput!) { jobCancel(input: $input) { ${USER_ERRORS} } }
`);

/** What the job page shows besides what `followJob` tells. */
export interface JobHead {
  readonly kind: JobFacts["kind"];
  readonly state: JobFacts["state"];
  readonly model: { readonly name: string } | null;
  readonly merge: {
    readonly inputs: readonly { readonly role: Role; readonly version: { readonly ref: string } | null }[];
    readonly version: { readonly ref: string } | null;
    readonly gate: { readonly ref: string } | null;
    readonly evaluations: { readonly nodes: readonly (FollowedEvaluation | null)[] } | null;
  } | null;
  readonly evaluation: { readonly inputs: EvaluationRow["inputs"] } | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

export const jobHeadDocument: Document<{ job: JobHead | null }, { id: string }> = document(`
  query ConsoleJob($id: ID!) {
    job(id: $id) {
      kind state model { name } createdAt startedAt finishedAt
      merge {
        inputs { role version { ref } } version { ref } gate { ref }
        evaluations(first: 1) { nodes { state verdict reportPath reasons { code } job { id } } }
      }
      evaluation { inputs { role version { ref } } }
    }
  }
`);
