import type { Device, Job } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import { type ServingAdvice, servingAdviceSchema } from "../core/evaluation/advice.ts";
import { DEFAULT_GATE } from "../core/evaluation/gates.ts";
import type { EvaluationReport, Gate } from "../core/evaluation/report.ts";
import { requireServable, servingPlans } from "../core/evaluation/serving-plans.ts";
import type { MergeChoices } from "../core/recipe.ts";
import { parseModelName } from "../core/refs.ts";
import { type LoadedVersion, loadVersion } from "./checkpoints.ts";
import { type RegistryContext, requireAccount, type ViewerContext } from "./context.ts";
import type { Db, Tx } from "./db.ts";
import { requireWorkerWith } from "./devices.ts";
import type { Claim } from "./events.ts";
import { findGate } from "./gates.ts";
import { earlierJob, finishJob, holdJob, startJob, toJson } from "./jobs.ts";
import { writableNamespace } from "./models.ts";
import { findServed, type Served, type ServingSubject } from "./serving-inputs.ts";
import { type NamedLines, readLines, storeLines, unpackLines } from "./text-sets.ts";

export interface ServingRequest {
  readonly of: ServingSubject;
  /** Adapters of this base that will be served, this one included; default 1. */
  readonly adapters?: number | null | undefined;
  /** Default: the built-in texts. */
  readonly texts?: NamedLines | null | undefined;
  /** Reference to a gate; default: the built-in one. */
  readonly gate?: string | null | undefined;
  readonly device?: Device | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
}

/** The job's input: there is no row of its own before everything was measured. */
interface ServingJobInput {
  readonly base: string;
  readonly sources: readonly { readonly id: string; readonly weight: number }[];
  readonly merged: string | null;
  readonly choices: MergeChoices;
  readonly planned: number;
  readonly gate: Gate;
  readonly textsId: string | null;
}

/** More than any server holds in memory. */
const MOST_ADAPTERS = 100_000;

/**
 * Makes a job that measures what serving base and adapters apart costs, and merged.
 * @throws what `findServed`, `findGate` and `readLines` throw; the refusals of a merge, but for a quantised base;
 *   DEVICE_UNAVAILABLE, UNAUTHENTICATED, FORBIDDEN, IDEMPOTENCY_CONFLICT
 */
export async function startServingAdvice(ctx: ViewerContext, request: ServingRequest): Promise<Job> {
  requireAccount(ctx.viewer);
  const { idempotencyKey, ...asked } = request;
  const wanted = { kind: "MEASURE_SERVING" as const, asked: toJson(asked), idempotencyKey };
  return (await earlierJob(ctx, wanted)) ?? (await prepareAndStart());

  async function prepareAndStart(): Promise<Job> {
    const planned = readAdapters(request.adapters);
    const texts = request.texts ? readLines("TEXTS", request.texts, "texts") : null;
    const { gate } = await findGate(ctx, request.gate ?? DEFAULT_GATE.name);
    const device = request.device ?? "CPU";
    const served = await findServed(ctx, request.of);
    await requireFit(ctx.db, served);
    await requireWorkerWith(ctx.db, { device, now: ctx.now() });
    return await startJob(ctx, wanted, async (tx) => {
      const { id: versionId, modelId, name, field } = served.subject;
      const namespaceId = await writableNamespace(tx, ctx, { name: parseModelName(name, field), field });
      const textsId = texts && (await storeLines(tx, namespaceId, texts));
      const input: ServingJobInput = {
        base: served.base.id,
        sources: served.sources.map(({ id, weight }) => ({ id, weight })),
        merged: served.merged?.id ?? null,
        choices: served.choices,
        planned,
        gate,
        textsId,
      };
      return { namespaceId, kind: "MEASURE_SERVING", device, input: toJson(input), modelId, versionId };
    });
  }
}

function readAdapters(value: number | null | undefined): number {
  const count = value ?? 1;
  if (Number.isInteger(count) && count >= 1 && count <= MOST_ADAPTERS) return count;
  throw new AppError("BAD_INPUT", `adapters must be a whole number from 1 to ${MOST_ADAPTERS}.`, {
    field: "adapters",
  });
}

/** From headers alone, so that adapters of another base are refused before anything is measured. */
async function requireFit(db: Db, { base, sources, choices }: Served): Promise<void> {
  const load = async ({ id }: { readonly id: string }) => await loadVersion(db, id);
  requireServable(
    servingPlans({ base: await load(base), sources: await Promise.all(sources.map(load)), choices }),
  );
}

/** Everything that a worker needs to measure. */
export interface ServingWork extends Pick<ServingJobInput, "choices" | "planned" | "gate"> {
  readonly base: LoadedVersion;
  readonly sources: readonly (LoadedVersion & { readonly weight: number })[];
  /** `null`: it was not written. */
  readonly merged: LoadedVersion | null;
  /** `null`: the built-in texts. */
  readonly texts: { readonly name: string; readonly jsonl: string } | null;
  readonly device: Device;
}

export async function loadServingWork(db: Db | Tx, jobId: string): Promise<ServingWork> {
  const { device, input } = await db.job.findUniqueOrThrow({
    where: { id: jobId },
    select: { device: true, input: true },
  });
  // Written by `startServingAdvice`.
  const { base, sources, merged, textsId, choices, planned, gate } = input as unknown as ServingJobInput;
  const texts = textsId === null ? null : await db.textSet.findUniqueOrThrow({ where: { id: textsId } });
  const loaded: (LoadedVersion & { weight: number })[] = [];
  for (const { id, weight } of sources) loaded.push({ ...(await loadVersion(db, id)), weight });
  return {
    base: await loadVersion(db, base),
    sources: loaded,
    merged: merged === null ? null : await loadVersion(db, merged),
    texts: texts && { name: texts.name, jsonl: unpackLines(texts.document) },
    choices,
    planned,
    gate,
    device,
  };
}

/** What was measured, and with what. */
export interface MeasuredAdvice {
  readonly advice: ServingAdvice;
  /** vLLM's, with the folders on this server. */
  readonly commands: ServingAdvice["commands"];
  readonly environment: ServingEnvironment;
}

/** Where an advice was measured. */
export type ServingEnvironment = Omit<EvaluationReport["environment"], "runtime">;

/** Records an advice with its inputs, and ends its job, in one transaction. Throws SUPERSEDED. */
export async function recordServingAdvice(
  ctx: RegistryContext,
  claim: Claim,
  { advice, commands, environment }: MeasuredAdvice,
): Promise<void> {
  // What is not an advice is a bug of ours, and must not be stored as one.
  servingAdviceSchema.parse(advice);
  await ctx.db.$transaction(async (tx) => {
    const { id: jobId, namespaceId, modelId, device, ...job } = await holdJob(tx, claim);
    if (modelId === null) throw new Error(`job ${jobId} has no model`);
    await tx.servingAdvice.create({
      data: {
        namespaceId,
        modelId,
        jobId,
        device,
        document: toJson(advice),
        commands: toJson(commands),
        environment: toJson(environment),
        measuredAt: ctx.now(),
        inputs: { create: inputRows(job.input as unknown as ServingJobInput) },
      },
    });
    const { recommendation, reasons } = advice;
    const codes = reasons.map(({ code }) => code);
    await finishJob(tx, claim, { now: ctx.now(), data: { recommendation, reasons: codes } });
  });
}

function inputRows({ base, sources, merged }: ServingJobInput) {
  return [
    { versionId: base, role: "BASE" as const, weight: null },
    ...sources.map(({ id, weight }) => ({ versionId: id, role: "ADAPTER" as const, weight })),
    ...(merged === null ? [] : [{ versionId: merged, role: "MERGED" as const, weight: null }]),
  ].map((input, position) => ({ ...input, position }));
}
