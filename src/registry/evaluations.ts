import type { Device, Evaluation, Job } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import { DEFAULT_GATE } from "../core/evaluation/gates.ts";
import { type EvaluationOptions, parseOptions } from "../core/evaluation/options.ts";
import { type EvaluationReport, type Gate, reportSchema } from "../core/evaluation/report.ts";
import { requireRunnable } from "../core/plan.ts";
import type { MergeChoices } from "../core/recipe.ts";
import { parseModelName } from "../core/refs.ts";
import { type LoadedVersion, loadVersion } from "./checkpoints.ts";
import { type RegistryContext, requireAccount, type ViewerContext } from "./context.ts";
import type { Db, Tx } from "./db.ts";
import { requireWorkerWith } from "./devices.ts";
import { createEvaluation, type NewEvaluation } from "./evaluation-follow.ts";
import { type Compared, type ComparedRequest, findCompared } from "./evaluation-inputs.ts";
import { packReport, summarise } from "./evaluation-reports.ts";
import type { Claim } from "./events.ts";
import { findGate } from "./gates.ts";
import { earlierJob, finishJob, holdJob, startJob, toJson } from "./jobs.ts";
import { writableNamespace } from "./models.ts";
import { storeRecipe } from "./recipes.ts";
import { type NamedLines, readLines, storeLines, unpackLines } from "./text-sets.ts";

export interface EvaluationRequest extends ComparedRequest {
  /** Default: the built-in texts. */
  readonly texts?: NamedLines | null | undefined;
  /** Level 4; default: none. */
  readonly tasks?: NamedLines | null | undefined;
  /** Reference to a gate; default: the built-in one. */
  readonly gate?: string | null | undefined;
  readonly device?: Device | null | undefined;
  /** As `parseOptions` reads them. */
  readonly options?: Readonly<Record<string, unknown>> | undefined;
  readonly idempotencyKey?: string | null | undefined;
}

/**
 * Accepts an evaluation: finds what it compares, and makes the evaluation and its job. What is wrong with the candidate
 * is for the report to say; refused is only what cannot be compared, and a recipe that could not be merged.
 * @throws what `findCompared`, `findGate`, `readLines` and `parseOptions` throw, DEVICE_UNAVAILABLE, UNAUTHENTICATED,
 *   FORBIDDEN, IDEMPOTENCY_CONFLICT
 */
export async function startEvaluation(
  ctx: ViewerContext,
  request: EvaluationRequest,
): Promise<{ job: Job; evaluationId: string }> {
  requireAccount(ctx.viewer);
  const { idempotencyKey, ...asked } = request;
  const wanted = { kind: "RUN_EVALUATION" as const, asked: toJson(asked), idempotencyKey };
  const job = (await earlierJob(ctx, wanted)) ?? (await prepareAndStart());
  if (job.evaluationId === null) throw new Error(`job ${job.id} has no evaluation`);
  return { job, evaluationId: job.evaluationId };

  async function prepareAndStart(): Promise<Job> {
    const options = parseOptions(request.options ?? {});
    const texts = request.texts ? readLines("TEXTS", request.texts, "texts") : null;
    const tasks = request.tasks ? readLines("TASKS", request.tasks, "tasks") : null;
    const { gate } = await findGate(ctx, request.gate ?? DEFAULT_GATE.name);
    const device = request.device ?? "CPU";
    // Before the transaction: the headers of a large model take a while. What they say never changes.
    const compared = await findCompared(ctx, request);
    if (compared.planned) requireRunnable(compared.planned.plan);
    await requireWorkerWith(ctx.db, { device, now: ctx.now() });
    return await startJob(ctx, wanted, async (tx, createdById) => {
      const { name, field } = compared.subject;
      const namespaceId = await writableNamespace(tx, ctx, { name: parseModelName(name, field), field });
      const textsId = texts && (await storeLines(tx, namespaceId, texts));
      const tasksId = tasks && (await storeLines(tx, namespaceId, tasks));
      const parts = { namespaceId, createdById, device, options, gate, textsId, tasksId };
      const { job } = await createEvaluation(tx, await comparedParts(tx, compared, parts), ctx.now());
      return job;
    });
  }
}

type RestOf = Omit<NewEvaluation, "modelId" | "baseId" | "sources" | "candidate" | "choices">;

async function comparedParts(tx: Tx, compared: Compared, parts: RestOf): Promise<NewEvaluation> {
  const { base, sources, candidate, planned, choices, subject } = compared;
  return {
    ...parts,
    modelId: subject.modelId,
    baseId: base.id,
    sources,
    choices,
    candidate: planned
      ? { recipeId: (await storeRecipe(tx, parts.namespaceId, planned)).id }
      : { versionId: candidate!.id },
  };
}

/** Everything that a worker needs to run an evaluation. */
export interface EvaluationWork {
  readonly evaluation: Evaluation;
  readonly base: LoadedVersion;
  readonly sources: readonly (LoadedVersion & { readonly weight: number })[];
  /** `null`: the recipe's own result, computed on the fly. */
  readonly candidate: LoadedVersion | null;
  readonly choices: MergeChoices;
  readonly options: EvaluationOptions;
  readonly gate: Gate;
  /** `null`: the built-in texts. */
  readonly texts: { readonly name: string; readonly jsonl: string } | null;
  readonly tasks: { readonly name: string; readonly jsonl: string } | null;
}

export async function loadEvaluationWork(db: Db | Tx, id: string): Promise<EvaluationWork> {
  const { inputs, texts, tasks, ...evaluation } = await db.evaluation.findUniqueOrThrow({
    where: { id },
    include: { inputs: { orderBy: { position: "asc" } }, texts: true, tasks: true },
  });
  let base: LoadedVersion | null = null;
  let candidate: LoadedVersion | null = null;
  const sources: (LoadedVersion & { weight: number })[] = [];
  for (const { versionId, role, weight } of inputs) {
    const version = await loadVersion(db, versionId);
    if (role === "BASE") base = version;
    else if (role === "CANDIDATE") candidate = version;
    else sources.push({ ...version, weight: weight ?? 1 });
  }
  if (!base) throw new Error(`evaluation ${id} has no base`);
  const lines = (set: typeof texts) => set && { name: set.name, jsonl: unpackLines(set.document) };
  return {
    evaluation,
    base,
    sources,
    candidate,
    // Written from what core parsed.
    choices: evaluation.choices as unknown as MergeChoices,
    options: parseOptions(evaluation.options as Record<string, unknown>),
    gate: evaluation.gate as unknown as Gate,
    texts: lines(texts),
    tasks: lines(tasks),
  };
}

/**
 * Records the report of an evaluation in one transaction with the end of evaluation and job.
 * @throws SUPERSEDED; REPORT_DIFFERS when the report is not of the gate or the bytes that were to be judged
 */
export async function recordEvaluation(
  ctx: RegistryContext,
  claim: Claim,
  report: EvaluationReport,
): Promise<void> {
  // What is not a report is a bug of ours, and must not be stored as one.
  reportSchema.parse(report);
  const document = packReport(report);
  const { verdict, reasons } = report;
  await ctx.db.$transaction(async (tx) => {
    const { id: jobId, evaluationId } = await holdJob(tx, claim);
    if (evaluationId === null) throw new Error(`job ${jobId} has no evaluation`);
    await requireSameSubject(tx, evaluationId, report);
    await tx.evaluationReport.create({ data: { evaluationId, document } });
    const data = { state: "SUCCEEDED" as const, verdict, summary: toJson(summarise(report)) };
    await tx.evaluation.update({ where: { id: evaluationId }, data: { ...data, finishedAt: ctx.now() } });
    await finishJob(tx, claim, {
      now: ctx.now(),
      data: { verdict, reasons: [...new Set(reasons.map(({ code }) => code))] },
    });
  });
}

/** A verdict is of bytes: the report must name the digests of the versions that it was asked for. */
async function requireSameSubject(tx: Tx, id: string, report: EvaluationReport): Promise<void> {
  const { gateDigest, inputs } = await tx.evaluation.findUniqueOrThrow({
    where: { id },
    include: { inputs: { orderBy: { position: "asc" }, include: { version: true } } },
  });
  const differs = (what: string, found: string, wanted: string) =>
    new AppError("REPORT_DIFFERS", `The report is of ${what} ${found}, but ${wanted} was asked for.`);
  if (report.gateDigest !== gateDigest) throw differs("gate", report.gateDigest, gateDigest);
  const { reference, candidate } = report;
  const told = [
    reference.base,
    ...reference.sources,
    ...(candidate.kind === "checkpoint" ? [candidate] : []),
  ];
  if (told.length !== inputs.length) {
    throw differs("another number of inputs:", String(told.length), String(inputs.length));
  }
  for (const [i, { version }] of inputs.entries()) {
    // Null where not every byte was read for it.
    const found = told[i]!.version;
    if (found !== null && found !== version.digest) throw differs("version", found, version.digest);
  }
}
