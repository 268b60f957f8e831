import { prismaConnectionHelpers } from "@pothos/plugin-prisma";
import { resolveArrayConnection } from "@pothos/plugin-relay";
import type { EvaluationOptions as OptionsShape } from "../core/evaluation/options.ts";
import type { EvaluationReport } from "../core/evaluation/report.ts";
import { unpackReport } from "../registry/evaluation-reports.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder, decodeId } from "./builder.ts";
import { Check } from "./check.ts";
import { Device, EvaluationRole, EvaluationState, EvaluationVerdict } from "./enums.ts";
import {
  Continuation,
  EvaluatedTexts,
  EvaluationReason,
  KldHistogram,
  LayerError,
  LogitParity,
  TaskParity,
  TensorRetention,
  TextParity,
  WeightParity,
  WorstPosition,
} from "./evaluation-report.ts";
import { Finding } from "./finding.ts";
import { Gate, readGate } from "./gate.ts";
import { DEFAULT_PAGE, MAX_PAGE } from "./limits.ts";
import { Merge } from "./merge.ts";
import { Recipe } from "./recipe.ts";
import { Version } from "./version.ts";

const EvaluationInput = builder.prismaObject("EvaluationInput", {
  description: "One version that an evaluation compares.",
  fields: (t) => ({
    role: t.expose("role", { type: EvaluationRole, description: "What the version is to the evaluation." }),
    weight: t.exposeFloat("weight", {
      nullable: true,
      description: "The adapter's weight; null for the others.",
    }),
    version: t.relation("version", { description: "The version.", nullable: true }),
  }),
});

const EvaluationOptions = builder.objectRef<OptionsShape>("EvaluationOptions").implement({
  description: "How an evaluation runs.",
  fields: (t) => ({
    seed: t.exposeInt("seed", { description: "Of whatever is drawn." }),
    window: t.exposeInt("window", {
      nullable: true,
      description: "Tokens of the longest window; null: chosen for the model.",
    }),
    stride: t.exposeInt("stride", {
      nullable: true,
      description: "How far the window moves; null: chosen with the window.",
    }),
    chatTemplate: t.exposeBoolean("chatTemplate", {
      description: "Whether plain texts are written with the model's chat template too.",
    }),
    floorTokens: t.exposeInt("floorTokens", { description: "Tokens of the noise floor; 0: none." }),
    maxNewTokens: t.exposeInt("maxNewTokens", { description: "Longest continuation of a prompt." }),
    prompts: t.exposeStringList("prompts", {
      nullable: true,
      description: "What level 3 continues; null: beginnings of the texts.",
    }),
  }),
});

const summaryOf = ({ summary }: { readonly summary: unknown }) => summary as EvaluationReport | null;

/** Rows that were loaded once are asked for several lists. */
const unpacked = new WeakMap<Uint8Array, EvaluationReport>();

/** The whole report of a row that was loaded with it. */
function reportOf({ report }: { readonly report: { readonly document: Uint8Array } | null }) {
  if (!report) return null;
  const known = unpacked.get(report.document) ?? unpackReport(report.document);
  unpacked.set(report.document, known);
  return known;
}

// Megabytes for a large model: loaded only where something of it is asked for.
const WHOLE = { report: { select: { document: true } } } as const;
const PAGED = { defaultSize: DEFAULT_PAGE, maxSize: MAX_PAGE };

/** What decides who may see an evaluation. */
const SEEN = {
  select: {
    id: true,
    namespaceId: true,
    model: { select: { visibility: true } },
    inputs: {
      orderBy: { position: "asc" },
      select: {
        evaluationId: true,
        position: true,
        version: { select: { namespaceId: true, model: { select: { visibility: true } } } },
      },
    },
  },
} as const;

export const Evaluation = builder.prismaNode("Evaluation", {
  id: { field: "id" },
  nullable: true,
  description:
    "A comparison of base and adapters, run un-merged, with a checkpoint or with what a recipe would give. Seen by those who see everything that it compares.",
  select: SEEN.select,
  fields: (t) => ({
    state: t.expose("state", { type: EvaluationState, description: "How far it has come." }),
    verdict: t.expose("verdict", {
      type: EvaluationVerdict,
      nullable: true,
      description: "What it says under its gate; null until there is a report.",
    }),
    reasons: t.field({
      type: [EvaluationReason],
      description: "Why it FAILED or is INCONCLUSIVE; empty for PASSED, and until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.reasons ?? [],
    }),
    warnings: t.field({
      type: [Finding],
      description: "What is worth reading whatever the verdict.",
      select: { summary: true },
      resolve: (row) => (summaryOf(row)?.warnings ?? []) as (typeof Finding.$inferType)[],
    }),
    gate: t.field({
      type: Gate,
      description: "The gate that the verdict rests on, as it was when the evaluation was asked for.",
      select: { gate: true, gateDigest: true },
      resolve: ({ gate, gateDigest }) => readGate(gate, gateDigest),
    }),
    inputs: t.relation("inputs", {
      type: EvaluationInput,
      description: "What it compares: the base, the adapters, and the candidate unless that is a recipe.",
      query: { orderBy: { position: "asc" } },
    }),
    recipe: t.field({
      type: Recipe,
      nullable: true,
      description: "The recipe whose result is judged without being written; null where a version is judged.",
      select: { recipe: { select: { digest: true, document: true } } },
      resolve: ({ recipe }) => recipe,
    }),
    note: t.string({
      nullable: true,
      description:
        "How the reference runs: as branches beside the base, or by the exact change where an adapter has no such form; null until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.reference.note ?? null,
    }),
    merge: t.relation("merge", {
      description: "The merge that it follows; null where somebody asked for it by itself.",
      nullable: true,
    }),
    device: t.expose("device", { type: Device, description: "What multiplies." }),
    options: t.field({
      type: EvaluationOptions,
      description: "How it runs.",
      select: { options: true },
      resolve: ({ options }) => options as OptionsShape,
    }),
    checks: t.field({
      type: [Check],
      description: "Levels 0 and 1: every question, with its answer.",
      select: { summary: true },
      resolve: (row) => [...(summaryOf(row)?.checks ?? [])],
    }),
    weights: t.field({
      type: WeightParity,
      nullable: true,
      description: "Level 1; null where the candidate's structure is another, and until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.weights ?? null,
    }),
    logits: t.field({
      type: LogitParity,
      nullable: true,
      description: "Level 2; null where `logitsSkipped` says why, and until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.logits ?? null,
    }),
    logitsSkipped: t.string({
      nullable: true,
      description: "Why level 2 was not measured.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.logitsSkipped ?? null,
    }),
    text: t.field({
      type: TextParity,
      nullable: true,
      description: "Level 3; null where there were no prompts, and until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.text ?? null,
    }),
    tasks: t.field({
      type: TaskParity,
      nullable: true,
      description: "Level 4; null where there were no tasks, and until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.tasks ?? null,
    }),
    texts: t.field({
      type: EvaluatedTexts,
      nullable: true,
      description: "What both sides ran over; null without level 2, and until there is a report.",
      select: { summary: true },
      resolve: (row) => summaryOf(row)?.texts ?? null,
    }),
    retention: t.connection(
      {
        type: TensorRetention,
        nullable: true,
        description: "What became of the change to each touched tensor.",
        select: WHOLE,
        resolve: (row, args) =>
          resolveArrayConnection({ args, ...PAGED }, reportOf(row)?.weights?.tensors ?? []),
      },
      { name: "TensorRetentionConnection" },
      { name: "TensorRetentionEdge" },
    ),
    layers: t.field({
      type: [LayerError],
      description: "How far the sides are apart after each layer.",
      select: WHOLE,
      resolve: (row) => [...(reportOf(row)?.logits?.layers ?? [])],
    }),
    histogram: t.field({
      type: KldHistogram,
      nullable: true,
      description: "How the KL divergence is distributed, with the noise floor's beside it.",
      select: WHOLE,
      resolve: (row) => reportOf(row)?.logits?.histogram ?? null,
    }),
    worst: t.connection(
      {
        type: WorstPosition,
        nullable: true,
        description: "Where the two sides disagree most, the worst first.",
        select: WHOLE,
        resolve: (row, args) =>
          resolveArrayConnection({ args, ...PAGED }, reportOf(row)?.logits?.worst ?? []),
      },
      { name: "WorstPositionConnection" },
      { name: "WorstPositionEdge" },
    ),
    continuations: t.connection(
      {
        type: Continuation,
        nullable: true,
        description: "The prompts of level 3, with both texts.",
        select: WHOLE,
        resolve: (row, args) =>
          resolveArrayConnection({ args, ...PAGED }, reportOf(row)?.text?.prompts ?? []),
      },
      { name: "ContinuationConnection" },
      { name: "ContinuationEdge" },
    ),
    report: t.field({
      type: "JSON",
      nullable: true,
      description: "The whole report, as evaluation.schema.json describes it; null until there is one.",
      select: WHOLE,
      resolve: (row) => reportOf(row),
    }),
    reportPath: t.string({
      nullable: true,
      description:
        "Where this server has the report: a page with `.html` after it, JSON with `.json`, Markdown for a model card with `.md`; null until there is one.",
      select: { verdict: true },
      resolve: ({ id, verdict }) => (verdict === null ? null : reportPath(id)),
    }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was asked for." }),
    startedAt: t.expose("startedAt", {
      type: "DateTime",
      nullable: true,
      description: "When a worker first took it.",
    }),
    finishedAt: t.expose("finishedAt", { type: "DateTime", nullable: true, description: "When it ended." }),
  }),
});

/** `/evaluations/<id>/report`, with the id as this API writes it. */
function reportPath(id: string): string {
  return `/evaluations/${Buffer.from(`Evaluation:${id}`).toString("base64url")}/report`;
}

/** The row of an evaluation by its id in this API; null for an id of something else. */
export function evaluationRow(text: string): string | null {
  const { typename, id } = decodeId(text);
  return typename === "Evaluation" ? id : null;
}

const EvaluationEdge = builder.edgeObject({ type: Evaluation, name: "EvaluationEdge" });

/** Shared by every list of evaluations. */
const EvaluationConnection = builder.connectionObject(
  { type: Evaluation, name: "EvaluationConnection" },
  EvaluationEdge,
);

const ofVersion = prismaConnectionHelpers(builder, "EvaluationInput", {
  cursor: "evaluationId_position",
  args: (t) => ({
    role: t.field({
      type: EvaluationRole,
      description: "Only evaluations in which the version had this part; if not said, any.",
    }),
  }),
  // Their ids sort by age.
  query: ({ role }, { viewer }) => ({
    where: { evaluation: visibleTo(viewer).evaluation, ...(role && { role }) },
    orderBy: { evaluationId: "desc" as const },
  }),
  select: (nodeSelection) => ({ evaluation: nodeSelection(SEEN) }),
  resolveNode: ({ evaluation }) => evaluation,
});

builder.prismaObjectField(Version, "evaluations", (t) =>
  t.connection(
    {
      type: Evaluation,
      nullable: true,
      description: "The evaluations that it is judged in, or that run on it, the newest first.",
      args: ofVersion.getArgs(),
      select: (args, context, nestedSelection) => ({
        evaluatedIn: ofVersion.getQuery(args, context, nestedSelection),
      }),
      resolve: ({ evaluatedIn }, args, context) => ofVersion.resolve(evaluatedIn, args, context),
    },
    EvaluationConnection,
    EvaluationEdge,
  ),
);

builder.prismaObjectFields(Merge, (t) => ({
  gate: t.field({
    type: Gate,
    nullable: true,
    description: "The gate that its result is evaluated under; null where no evaluation was asked for.",
    select: { gate: true },
    resolve: ({ gate }) => (gate === null ? null : readGate(gate)),
  }),
  evaluations: t.relatedConnection(
    "evaluations",
    {
      type: Evaluation,
      description: "The evaluations that followed it, the newest first.",
      cursor: "id",
      nullable: true,
      query: (_, { viewer }) => ({ where: visibleTo(viewer).evaluation, orderBy: [{ id: "desc" }] }),
    },
    EvaluationConnection,
    EvaluationEdge,
  ),
}));

builder.queryField("evaluation", (t) =>
  t.prismaField({
    type: Evaluation,
    nullable: true,
    description: "The evaluation with this id; null where there is none that the viewer may see.",
    args: { id: t.arg.id({ required: true, description: "An id of an Evaluation." }) },
    resolve: (query, _, { id }, { db }) => {
      const row = evaluationRow(id);
      return row === null ? null : db.evaluation.findUnique({ ...query, where: { id: row } });
    },
  }),
);
