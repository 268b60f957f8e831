import { builder, decodeId } from "./builder.ts";
import { JobKind, JobState, MergeVerdict } from "./enums.ts";
import { Evaluation } from "./evaluation.ts";
import { Finding, readFindings } from "./finding.ts";
import { Merge } from "./merge.ts";
import { ServingAdvice } from "./serving-advice.ts";
import { Version } from "./version.ts";

interface ProgressShape {
  readonly stage: string | null;
  readonly done: bigint;
  readonly total: bigint;
  readonly unit: string;
}

const JobProgress = builder.objectRef<ProgressShape>("JobProgress").implement({
  description: "How far a running job is in its present stage.",
  fields: (t) => ({
    stage: t.exposeString("stage", { nullable: true, description: "What it is doing." }),
    done: t.expose("done", { type: "BigInt", description: "How much of the stage is done." }),
    total: t.expose("total", { type: "BigInt", description: "How much there is to do; 0 while unknown." }),
    unit: t.exposeString("unit", { description: "What `done` and `total` count, for example bytes." }),
    fraction: t.float({
      nullable: true,
      description: "`done` of `total`, 0 to 1; null while the total is unknown.",
      resolve: ({ done, total }) => (total > 0n ? Math.min(1, Number(done) / Number(total)) : null),
    }),
  }),
});

interface ErrorShape {
  readonly code: string;
  readonly message: string;
  readonly reasons: unknown;
}

const JobError = builder.objectRef<ErrorShape>("JobError").implement({
  description: "Why a job failed.",
  fields: (t) => ({
    code: t.exposeString("code", { description: "Stable code in capitals." }),
    message: t.exposeString("message", { description: "What is wrong, where, why, and what to do next." }),
    reasons: t.field({
      type: [Finding],
      description: "Every reason, where there were several.",
      resolve: ({ reasons }) => readFindings(reasons),
    }),
  }),
});

function readError(value: unknown): ErrorShape | null {
  const error = value as Partial<ErrorShape> | null;
  return typeof error?.code === "string" && typeof error.message === "string"
    ? { code: error.code, message: error.message, reasons: error.reasons }
    : null;
}

/** What a job that succeeded points to. */
interface ResultShape {
  readonly id: string;
  readonly kind: keyof typeof RESULT_TYPES;
  readonly versionId: string | null;
  readonly mergeId: string | null;
  readonly evaluationId: string | null;
}

type Result = ReturnType<typeof builder.objectRef<ResultShape>>;

const ImportResult: Result = builder.objectRef<ResultShape>("ImportResult");
ImportResult.implement({
  description: "What an import gave.",
  fields: (t) => ({
    version: t.prismaField({
      type: Version,
      nullable: true,
      description: "The version with the imported bytes; an older one, where they were there already.",
      resolve: (query, { versionId }, _, { db }) =>
        versionId === null ? null : db.version.findUnique({ ...query, where: { id: versionId } }),
    }),
  }),
});

const MergeResult = builder.objectRef<ResultShape>("MergeResult").implement({
  description: "What a merge gave.",
  fields: (t) => ({
    merge: t.prismaField({
      type: Merge,
      nullable: true,
      description: "The merge.",
      resolve: (query, { mergeId }, _, { db }) =>
        mergeId === null ? null : db.merge.findUnique({ ...query, where: { id: mergeId } }),
    }),
    version: t.prismaField({
      type: Version,
      nullable: true,
      description: "The merged version.",
      resolve: (query, { mergeId }, _, { db }) =>
        mergeId === null
          ? null
          : db.version.findFirst({ ...query, where: { merges: { some: { id: mergeId } } } }),
    }),
    cached: t.boolean({
      nullable: true,
      description: "The recipe's result was there already and was taken over.",
      resolve: async ({ mergeId }, _, { db }) => {
        const merge =
          mergeId && (await db.merge.findUnique({ where: { id: mergeId }, select: { cachedFromId: true } }));
        return merge ? merge.cachedFromId !== null : null;
      },
    }),
  }),
});

const VerifyResult = builder.objectRef<ResultShape>("VerifyResult").implement({
  description: "What a verification found.",
  fields: (t) => ({
    merge: t.prismaField({
      type: Merge,
      nullable: true,
      description: "The merge that was derived again, with the verification's report.",
      resolve: (query, { mergeId }, _, { db }) =>
        mergeId === null ? null : db.merge.findUnique({ ...query, where: { id: mergeId } }),
    }),
    verdict: t.field({
      type: MergeVerdict,
      nullable: true,
      description: "The outcome.",
      resolve: async ({ mergeId }, _, { db }) => {
        const merge =
          mergeId && (await db.merge.findUnique({ where: { id: mergeId }, select: { verifyVerdict: true } }));
        return merge ? merge.verifyVerdict : null;
      },
    }),
  }),
});

const EvaluationResult: Result = builder.objectRef<ResultShape>("EvaluationResult");
EvaluationResult.implement({
  description: "What an evaluation gave.",
  fields: (t) => ({
    evaluation: t.prismaField({
      type: Evaluation,
      nullable: true,
      description: "The evaluation, with its verdict and its report.",
      resolve: (query, { evaluationId }, _, { db }) =>
        evaluationId === null ? null : db.evaluation.findUnique({ ...query, where: { id: evaluationId } }),
    }),
  }),
});

const ServingAdviceResult: Result = builder.objectRef<ResultShape>("ServingAdviceResult");
ServingAdviceResult.implement({
  description: "What measuring gave.",
  fields: (t) => ({
    advice: t.prismaField({
      type: ServingAdvice,
      nullable: true,
      description: "The advice.",
      resolve: (query, { id }, _, { db }) => db.servingAdvice.findUnique({ ...query, where: { jobId: id } }),
    }),
  }),
});

const RESULT_TYPES = {
  IMPORT_VERSION: ImportResult,
  RUN_MERGE: MergeResult,
  VERIFY_MERGE: VerifyResult,
  RUN_EVALUATION: EvaluationResult,
  MEASURE_SERVING: ServingAdviceResult,
};

const JobResult = builder.unionType("JobResult", {
  description: "What a job gave, by its kind.",
  types: [ImportResult, MergeResult, VerifyResult, EvaluationResult, ServingAdviceResult],
  resolveType: ({ kind }) => RESULT_TYPES[kind],
});

export const Job = builder.prismaNode("Job", {
  id: { field: "id" },
  nullable: true,
  description: "One run of slow work.",
  select: { id: true, namespaceId: true },
  fields: (t) => ({
    kind: t.expose("kind", { type: JobKind, description: "What it does." }),
    state: t.expose("state", { type: JobState, description: "How far it has come." }),
    attempt: t.exposeInt("attempt", { description: "How often a worker took it." }),
    stage: t.exposeString("stage", { nullable: true, description: "What it is doing right now." }),
    progress: t.field({
      type: JobProgress,
      nullable: true,
      description: "How far it is in its stage; null before it runs.",
      select: { stage: true, progressDone: true, progressTotal: true, progressUnit: true, startedAt: true },
      resolve: (job) =>
        job.startedAt === null
          ? null
          : { stage: job.stage, done: job.progressDone, total: job.progressTotal, unit: job.progressUnit },
    }),
    error: t.field({
      type: JobError,
      nullable: true,
      description: "Why it failed; null unless it did.",
      select: { error: true },
      resolve: ({ error }) => readError(error),
    }),
    result: t.field({
      type: JobResult,
      nullable: true,
      description: "What it gave; null until it succeeded.",
      select: { id: true, kind: true, state: true, versionId: true, mergeId: true, evaluationId: true },
      resolve: ({ id, kind, state, versionId, mergeId, evaluationId }) =>
        state === "SUCCEEDED" ? { id, kind, versionId, mergeId, evaluationId } : null,
    }),
    model: t.relation("model", { description: "The model it works for.", nullable: true }),
    merge: t.relation("merge", {
      description: "The merge that it runs, verifies or follows.",
      nullable: true,
    }),
    evaluation: t.relation("evaluation", { description: "The evaluation that it runs.", nullable: true }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was asked for." }),
    startedAt: t.expose("startedAt", {
      type: "DateTime",
      nullable: true,
      description: "When a worker first took it.",
    }),
    finishedAt: t.expose("finishedAt", { type: "DateTime", nullable: true, description: "When it ended." }),
  }),
});

builder.prismaObjectField(Evaluation, "job", (t) =>
  t.field({
    type: Job,
    nullable: true,
    description: "The job that runs it.",
    select: (_, __, nested) => ({ jobs: nested({ take: 1, orderBy: { id: "desc" } }) }),
    // The selection brings what the type needs to be guarded; TypeScript does not see through it.
    resolve: ({ jobs }) => (jobs[0] ?? null) as typeof Job.$inferType | null,
  }),
);

builder.prismaObjectField(ServingAdvice, "job", (t) =>
  t.relation("job", {
    nullable: true,
    description: "The job that measured it; null for those who may not see jobs of the namespace.",
  }),
);

builder.queryFields((t) => ({
  job: t.prismaField({
    type: Job,
    nullable: true,
    description: "The job with this id; null where there is none that the viewer may see.",
    args: { id: t.arg.id({ required: true, description: "An id of a Job." }) },
    resolve: (query, _, { id }, { db }) => {
      const { typename, id: key } = decodeId(id);
      return typename === "Job" ? db.job.findUnique({ ...query, where: { id: key } }) : null;
    },
  }),
}));
