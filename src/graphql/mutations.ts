import { AppError } from "../core/errors.ts";
import { notFound } from "../registry/context.ts";
import { cancelJob } from "../registry/jobs.ts";
import { startMerge, startVerify } from "../registry/merges.ts";
import { startImport } from "../registry/models.ts";
import { builder, decodeId } from "./builder.ts";
import { Device, LineageRole, ModelKind, Visibility } from "./enums.ts";
import { jobField, KEY } from "./job-field.ts";
import { JsonlInput } from "./jsonl-input.ts";
import { Merge } from "./merge.ts";
import { mutation, type PayloadBuilder } from "./payload.ts";
import {
  MergeSourceInput,
  PinnedVersionInput,
  PLAN_FIELDS,
  RecipeChoicesInput,
  toPlanRequest,
} from "./plan-input.ts";
import { toRef, VersionRefInput } from "./version-ref.ts";

const mergeField = <Result extends { mergeId: string | null }>(t: PayloadBuilder<Result>) =>
  t.prismaField({
    type: Merge,
    nullable: true,
    description: "The merge; null when refused.",
    resolve: (query, { mergeId }, _, { db }) =>
      typeof mergeId === "string" ? db.merge.findUnique({ ...query, where: { id: mergeId } }) : null,
  });

const ImportSourceInput = builder.inputType("ImportSourceInput", {
  isOneOf: true,
  description: "Where the files are.",
  fields: (t) => ({
    local: t.string({ description: "A folder on the server, below one of its import roots." }),
  }),
});

mutation("modelImport", {
  description: "Reads a folder and records it as a version; the bytes stay where they are.",
  input: builder.inputType("ModelImportInput", {
    description: "What to import, and as what.",
    fields: (t) => ({
      source: t.field({ type: ImportSourceInput, required: true, description: "Where the files are." }),
      model: t.string({ required: true, description: "`owner/name`; made if it does not exist." }),
      kind: t.field({
        type: ModelKind,
        description: "What it is; if not said, what the files turn out to be.",
      }),
      base: t.field({ type: VersionRefInput, description: "For an adapter: the version it was trained on." }),
      visibility: t.field({
        type: Visibility,
        defaultValue: "PRIVATE",
        description: "Who may see a model that is made; one that exists keeps its own.",
      }),
      idempotencyKey: t.string({ required: true, description: KEY }),
    }),
  }),
  fields: { name: "model", path: "source.local" },
  resolve: async (input, context) => {
    const { source, model, kind, visibility, idempotencyKey } = input;
    if (kind === "MERGED") {
      throw new AppError("BAD_INPUT", "Only a merge makes a model of kind MERGED; import it as BASE.", {
        field: "kind",
      });
    }
    const base = input.base ? await toRef(context, input.base, "base") : null;
    const request = { name: model, path: source.local ?? "", kind, base, visibility, idempotencyKey };
    return { jobId: (await startImport(context, request)).id };
  },
  payload: (t) => ({ job: jobField(t) }),
});

const MergeOutputInput = builder.inputType("MergeOutputInput", {
  description: "Where the result goes.",
  fields: (t) => ({
    model: t.string({
      required: true,
      description: "`owner/name` of a merged model; made if it does not exist.",
    }),
    visibility: t.field({
      type: Visibility,
      defaultValue: "PRIVATE",
      description: "Who may see a model that is made; one that exists keeps its own.",
    }),
  }),
});

mutation("mergeStart", {
  description:
    "Starts a merge, or refuses it with every reason. Where the recipe's result exists, the job only checks its files and answers with it.",
  input: builder.inputType("MergeStartInput", {
    description: "What to merge, how, and where the result goes.",
    fields: (t) => ({
      base: t.field({ type: PinnedVersionInput, required: true, description: "The checkpoint to adapt." }),
      sources: t.field({
        type: [MergeSourceInput],
        required: true,
        description: "The adapters, in order; exactly one for now.",
      }),
      output: t.field({ type: MergeOutputInput, required: true, description: "Where the result goes." }),
      tokenizer: t.field({ type: LineageRole, description: "As in MergePlanInput." }),
      choices: t.field({ type: RecipeChoicesInput, description: "As in MergePlanInput." }),
      strictBase: t.boolean({ defaultValue: false, description: "As in MergePlanInput." }),
      device: t.field({ type: Device, defaultValue: "CPU", description: "What multiplies." }),
      force: t.boolean({ defaultValue: false, description: "Merge again even if the result exists." }),
      gate: t.string({
        description:
          "Evaluate the result under this gate, as soon as there is one: `default`, `owner/name` or either with `@version`.",
      }),
      texts: t.field({
        type: JsonlInput,
        description: "Texts for that evaluation; if not said, those that come with Graftwork.",
      }),
      idempotencyKey: t.string({ required: true, description: KEY }),
    }),
  }),
  fields: { ...PLAN_FIELDS, output: "output.model", name: "output.model" },
  resolve: async (input, context) => {
    const { output, device, force, gate, texts, idempotencyKey } = input;
    const { job, mergeId } = await startMerge(context, {
      ...(await toPlanRequest(context, input)),
      output: output.model,
      visibility: output.visibility,
      device,
      force,
      gate,
      texts,
      idempotencyKey,
    });
    return { jobId: job.id, mergeId };
  },
  payload: (t) => ({ merge: mergeField(t), job: jobField(t) }),
});

mutation("mergeVerify", {
  description: "Derives a merged version again from its inputs and compares every digest.",
  input: builder.inputType("MergeVerifyInput", {
    description: "What to verify.",
    fields: (t) => ({
      version: t.field({ type: VersionRefInput, required: true, description: "A merged version." }),
      idempotencyKey: t.string({ required: true, description: KEY }),
    }),
  }),
  fields: { ref: "version", name: "version" },
  resolve: async (input, context) => {
    const ref = await toRef(context, input.version, "ref");
    const job = await startVerify(context, { ref, idempotencyKey: input.idempotencyKey });
    return { jobId: job.id, mergeId: job.mergeId };
  },
  payload: (t) => ({ merge: mergeField(t), job: jobField(t) }),
});

mutation("jobCancel", {
  description: "Stops a job that has not ended; stopping it twice is the same as once.",
  input: builder.inputType("JobCancelInput", {
    description: "What to stop.",
    fields: (t) => ({ job: t.id({ required: true, description: "The id of a Job." }) }),
  }),
  fields: { jobId: "job" },
  resolve: async ({ job }, context) => {
    const { typename, id } = decodeId(job);
    if (typename !== "Job") throw notFound(`The job ${job}`, "jobId");
    return { jobId: (await cancelJob(context, { jobId: id })).id };
  },
  payload: (t) => ({ job: jobField(t) }),
});
