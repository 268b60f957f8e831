import { type Document, document } from "../../src/client/document.ts";
import type { EvaluationStartInput, EvaluationState, EvaluationVerdict } from "../../src/client/types.ts";
import type { StartedJob } from "./documents.ts";

/** An evaluation that a version is judged in, or that runs on it. */
export interface EvaluationRow {
  readonly id: string;
  readonly state: EvaluationState;
  readonly verdict: EvaluationVerdict | null;
  readonly createdAt: string;
  readonly reportPath: string | null;
  readonly reasons: readonly { readonly code: string }[];
  readonly gate: { readonly ref: string };
  readonly inputs: readonly {
    readonly role: "BASE" | "ADAPTER" | "CANDIDATE";
    readonly version: { readonly ref: string } | null;
  }[];
  readonly logits: {
    readonly meanKld: { readonly value: number; readonly standardError: number | null };
    readonly timesFloor: number | null;
  } | null;
  readonly job: { readonly id: string } | null;
}

/** The evaluation that a merge was followed by. */
export type FollowedEvaluation = Pick<EvaluationRow, "state" | "verdict" | "reportPath" | "reasons" | "job">;

export interface GateRow {
  /** `default`, `owner/name` */
  readonly name: string;
  readonly description: string;
}

export const gatesDocument: Document<
  { gates: { readonly nodes: readonly (GateRow | null)[] } | null },
  Record<string, never>
> = document(`
  query ConsoleGates { gates(first: 100) { nodes { name description } } }
`);

export const evaluationStartDocument: Document<
  { evaluationStart: StartedJob },
  { input: EvaluationStartInput }
> = document(`
  mutation ConsoleEvaluationStart($input: EvaluationStartInput!) {
    evaluationStart(input: $input) { job { id } userErrors { code field message ... on PlanRefused { reasons { code message subject } } } }
  }
`);
