import type { Device, Evaluation, EvaluationRole, Prisma } from "../../prisma/client/client.ts";
import { gateDigest } from "../core/evaluation/gates.ts";
import { type EvaluationOptions, parseOptions } from "../core/evaluation/options.ts";
import type { Gate } from "../core/evaluation/report.ts";
import { type MergeChoices, parseRecipe, recipeChoices } from "../core/recipe.ts";
import type { RegistryContext } from "./context.ts";
import type { Tx } from "./db.ts";
import { followJob, type NewJob, toJson } from "./jobs.ts";

/** An evaluation as its row and the rows of its inputs say it. */
export interface NewEvaluation {
  readonly namespaceId: string;
  /** The model that it is about. */
  readonly modelId: string;
  readonly createdById: string;
  readonly device: Device;
  readonly baseId: string;
  readonly sources: readonly { readonly id: string; readonly weight: number }[];
  /** A version, or a recipe that is computed on the fly. */
  readonly candidate: { readonly versionId: string } | { readonly recipeId: string };
  readonly choices: MergeChoices;
  readonly options: EvaluationOptions;
  readonly gate: Gate;
  /** Absent: the built-in texts. */
  readonly textsId?: string | null;
  readonly tasksId?: string | null;
  readonly mergeId?: string;
}

/** Writes an evaluation that waits for a worker, and says which job it needs. */
export async function createEvaluation(tx: Tx, evaluation: NewEvaluation, now: Date) {
  const { namespaceId, modelId, createdById, device, candidate, choices, options, gate } = evaluation;
  const { textsId = null, tasksId = null, mergeId } = evaluation;
  const row = await tx.evaluation.create({
    data: {
      namespaceId,
      modelId,
      createdById,
      device,
      choices: toJson(choices),
      options: toJson(options),
      gate: toJson(gate),
      gateDigest: gateDigest(gate),
      textsId,
      tasksId,
      createdAt: now,
      inputs: { create: inputRows(evaluation) },
      ...(mergeId !== undefined && { mergeId }),
      ...("recipeId" in candidate && { recipeId: candidate.recipeId }),
    },
  });
  const job: NewJob = {
    namespaceId,
    kind: "RUN_EVALUATION",
    device,
    input: { evaluation: row.id },
    evaluationId: row.id,
    modelId,
    ...("versionId" in candidate && { versionId: candidate.versionId }),
    ...(mergeId !== undefined && { mergeId }),
  };
  return { evaluation: row satisfies Evaluation, job };
}

type InputRow = Omit<Prisma.EvaluationInputUncheckedCreateInput, "evaluationId">;

function inputRows({ baseId, sources, candidate }: NewEvaluation): InputRow[] {
  const row = (versionId: string, role: EvaluationRole, weight: number | null = null) => ({
    versionId,
    role,
    weight,
  });
  return [
    row(baseId, "BASE"),
    ...sources.map(({ id, weight }) => row(id, "ADAPTER", weight)),
    ...("versionId" in candidate ? [row(candidate.versionId, "CANDIDATE")] : []),
  ].map((input, position) => ({ ...input, position }));
}

/**
 * Starts the evaluation that a merge named a gate for, in the transaction that records the merge's version. Nothing
 * for a merge that named none.
 */
export async function followMerge(ctx: RegistryContext, tx: Tx, mergeId: string): Promise<void> {
  const merge = await tx.merge.findUniqueOrThrow({
    where: { id: mergeId },
    include: { recipe: true, version: true, inputs: { orderBy: { position: "asc" } } },
  });
  if (merge.gate === null) return;
  const [base, ...sources] = merge.inputs;
  if (!base || !merge.version) throw new Error(`merge ${mergeId} has nothing to evaluate`);
  const { createdById } = merge;
  const { job } = await createEvaluation(
    tx,
    {
      namespaceId: merge.version.namespaceId,
      modelId: merge.version.modelId,
      createdById,
      device: merge.device,
      baseId: base.versionId,
      sources: sources.map(({ versionId, weight }) => ({ id: versionId, weight: weight ?? 1 })),
      candidate: { versionId: merge.version.id },
      choices: recipeChoices(parseRecipe(merge.recipe.document)),
      options: parseOptions({}),
      gate: merge.gate as unknown as Gate,
      textsId: merge.textsId,
      mergeId,
    },
    ctx.now(),
  );
  await followJob(ctx, tx, { ...job, createdById });
}
