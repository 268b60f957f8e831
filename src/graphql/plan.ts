import { resolveArrayConnection } from "@pothos/plugin-relay";
import type { MergePlan as PlanShape } from "../core/plan.ts";
import { SOUND } from "../registry/cached-merges.ts";
import { type WorkerRoom as RoomShape, roomOfWorkers } from "../registry/devices.ts";
import { type PlannedMerge, planFor } from "../registry/merge-plan.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder } from "./builder.ts";
import { LineageRole } from "./enums.ts";
import { Finding } from "./finding.ts";
import { DEFAULT_PAGE, MAX_PAGE } from "./limits.ts";
import { inquiry } from "./payload.ts";
import { PLAN_FIELDS, recipeFields, toPlanRequest } from "./plan-input.ts";
import { Recipe } from "./recipe.ts";
import { Version } from "./version.ts";

const role = (from: "base" | "adapter") => (from === "base" ? "BASE" : "ADAPTER");

const MergePlanSource = builder.objectRef<PlannedMerge["sources"][number]>("MergePlanSource").implement({
  description: "An adapter of a plan.",
  fields: (t) => ({
    version: t.prismaField({
      type: Version,
      nullable: true,
      description: "The version that the input named.",
      resolve: (query, { id }, _, { db }) => db.version.findUnique({ ...query, where: { id } }),
    }),
    weight: t.exposeFloat("weight", { description: "The factor on the adapter's update." }),
  }),
});

const DeltaForecast = builder
  .objectRef<NonNullable<PlanShape["touched"][number]["forecast"]>>("DeltaForecast")
  .implement({
    description: "What rounding into the output's type will cost a change, from the sizes of both.",
    fields: (t) => ({
      weightRms: t.exposeFloat("weightRms", { description: "Root mean square of the base tensor." }),
      deltaRms: t.exposeFloat("deltaRms", { description: "Root mean square of the change." }),
      relativeError: t.exposeFloat("relativeError", {
        description:
          "Expected noise that rounding adds, relative to the change; above 1, more is lost than kept.",
      }),
      unchangedShare: t.exposeFloat("unchangedShare", {
        description: "Expected share of elements that do not move.",
      }),
    }),
  });

const TouchedTensor = builder.objectRef<PlanShape["touched"][number]>("TouchedTensor").implement({
  description: "A tensor that the adapter changes.",
  fields: (t) => ({
    tensor: t.exposeString("tensor", { description: "Its name in the base." }),
    module: t.exposeString("module", { description: "The adapted module, as the adapter calls it." }),
    change: t.exposeString("change", { description: "What happens to it: LoRA, DoRA, IA3, bias, …" }),
    rank: t.exposeInt("rank", { nullable: true, description: "Rank of the update; null where it has none." }),
    alpha: t.exposeFloat("alpha", { nullable: true, description: "lora_alpha of this module." }),
    forecast: t.field({
      type: DeltaForecast,
      nullable: true,
      description:
        "What rounding will cost; null where sizes are not known, or the change is not of low rank.",
      resolve: ({ forecast }) => forecast,
    }),
    scale: t.exposeFloat("scale", { nullable: true, description: "The factor on B·A, the weight included." }),
  }),
});

const PlannedShard = builder.objectRef<PlanShape["shards"][number]>("PlannedShard").implement({
  description: "A weights file of the output.",
  fields: (t) => ({
    path: t.exposeString("path", { description: "Its path in the output." }),
    sizeBytes: t.expose("size", { type: "BigInt", description: "Bytes." }),
  }),
});

const PlannedFile = builder.objectRef<PlanShape["files"][number]>("PlannedFile").implement({
  description: "A small file that comes along.",
  fields: (t) => ({
    path: t.exposeString("path", { description: "Its path in the output." }),
    sizeBytes: t.expose("size", { type: "BigInt", description: "Bytes." }),
    from: t.field({
      type: LineageRole,
      nullable: true,
      description: "Whose file it is; null for one that the plan changes, such as config.json.",
      resolve: ({ from }) => (from === "plan" ? null : role(from)),
    }),
  }),
});

const Coverage = builder.objectRef<PlanShape["coverage"][number]>("AdapterCoverageReport").implement({
  description: "What becomes of an adapter's tensors: each should have exactly one part in the merge.",
  fields: (t) => ({
    tensorCount: t.exposeInt("tensors", { description: "Tensors in the adapter's file." }),
    consumedCount: t.exposeInt("consumed", { description: "Those with a part in the merge." }),
    ignored: t.stringList({
      description: "Without a part on purpose.",
      resolve: ({ ignored }) => [...ignored],
    }),
    orphaned: t.stringList({ description: "Used by nothing.", resolve: ({ orphaned }) => [...orphaned] }),
    missing: t.stringList({
      description: "Modules that the config targets and the file lacks.",
      resolve: ({ missing }) => [...missing],
    }),
    duplicated: t.stringList({
      description: "Used for more than one tensor: a shared projection, or a tied pair.",
      resolve: ({ duplicated }) => [...duplicated],
    }),
  }),
});

const TokenizerPlan = builder.objectRef<PlanShape["tokenizer"]>("TokenizerPlan").implement({
  description: "Which tokenizer the output takes.",
  fields: (t) => ({
    from: t.field({ type: LineageRole, description: "Whose.", resolve: ({ from }) => role(from) }),
    files: t.stringList({
      description: "Its files in the output.",
      resolve: ({ files }) => files.map(({ path }) => path),
    }),
    differences: t.stringList({
      description: "Files that the adapter ships and that differ from the base's.",
      resolve: ({ differences }) => [...differences],
    }),
  }),
});

const MemoryPlan = builder.objectRef<PlanShape["memory"]>("MemoryPlan").implement({
  description: "Memory of a merge: once, and for each thread.",
  fields: (t) => ({
    processBytes: t.expose("process", { type: "BigInt", description: "Once, in bytes." }),
    threadBytes: t.expose("thread", {
      type: "BigInt",
      description: "For each thread: its tiles, and the largest operands that one tensor needs as a whole.",
    }),
  }),
});

const WorkerRoom = builder.objectRef<RoomShape>("WorkerRoom").implement({
  description: "What workers have free.",
  fields: (t) => ({
    freeDiskBytes: t.field({
      type: "BigInt",
      nullable: true,
      description: "Bytes on the disk that merges are written to; null where no worker tells.",
      resolve: ({ freeDiskBytes }) => freeDiskBytes,
    }),
    memoryBytes: t.field({
      type: "BigInt",
      nullable: true,
      description: "Bytes of memory that one worker's merges may take together.",
      resolve: ({ memoryBytes }) => memoryBytes,
    }),
  }),
});

export const MergePlan = builder.objectRef<PlannedMerge>("MergePlan").implement({
  description: "What a merge would do, worked out from headers and configs alone.",
  fields: (t) => ({
    runnable: t.boolean({
      description: "Whether it could be started.",
      resolve: ({ plan }) => plan.refusals.length === 0,
    }),
    refusals: t.field({
      type: [Finding],
      description: "Every reason why not.",
      resolve: ({ plan }) => [...plan.refusals],
    }),
    warnings: t.field({
      type: [Finding],
      description: "What is worth knowing before.",
      resolve: ({ plan }) => [...plan.warnings],
    }),
    base: t.prismaField({
      type: Version,
      nullable: true,
      description: "The version that the input named as base.",
      resolve: (query, { base }, _, { db }) => db.version.findUnique({ ...query, where: { id: base.id } }),
    }),
    sources: t.field({
      type: [MergePlanSource],
      description: "The adapters.",
      resolve: ({ sources }) => [...sources],
    }),
    recipe: t.field({
      type: Recipe,
      nullable: true,
      description: "The recipe that would be executed; null when refused.",
      resolve: ({ plan, recipe, recipeDigest }) =>
        plan.refusals.length > 0 ? null : { digest: recipeDigest, document: recipe },
    }),
    tensorCount: t.int({
      description: "Tensors of the output.",
      resolve: ({ plan }) => plan.steps.length,
    }),
    touchedCount: t.int({
      description: "Tensors that the adapter changes; the others are copied.",
      resolve: ({ plan }) => plan.touched.length,
    }),
    touched: t.connection(
      {
        type: TouchedTensor,
        nullable: true,
        description: "The tensors that the adapter changes.",
        resolve: ({ plan }, args) =>
          resolveArrayConnection({ args, defaultSize: DEFAULT_PAGE, maxSize: MAX_PAGE }, [...plan.touched]),
      },
      { name: "TouchedTensorConnection" },
      { name: "TouchedTensorEdge" },
    ),
    coverage: t.field({
      type: [Coverage],
      description: "What becomes of each adapter's tensors.",
      resolve: ({ plan }) => [...plan.coverage],
    }),
    leftOut: t.stringList({
      description: "Adapted modules that stay as they are in the base, because of include and exclude.",
      resolve: ({ plan }) => [...plan.leftOut],
    }),
    outputs: t.field({
      type: [PlannedShard],
      description: "The weights files: the base's layout.",
      resolve: ({ plan }) => [...plan.shards],
    }),
    files: t.field({
      type: [PlannedFile],
      description: "The small files that come along.",
      resolve: ({ plan }) => [...plan.files],
    }),
    bytesToRead: t.field({
      type: "BigInt",
      description: "Bytes that it would read.",
      resolve: ({ plan }) => plan.bytesToRead,
    }),
    bytesToWrite: t.field({
      type: "BigInt",
      description: "Bytes that it would write: free space that it needs.",
      resolve: ({ plan }) => plan.bytesToWrite,
    }),
    memory: t.field({
      type: MemoryPlan,
      description: "Memory that it would take, estimated from above.",
      resolve: ({ plan }) => plan.memory,
    }),
    room: t.field({
      type: WorkerRoom,
      description: "The most that any one worker has free: what it would have to fit into.",
      resolve: (_, __, context) => roomOfWorkers(context),
    }),
    tokenizer: t.field({
      type: TokenizerPlan,
      description: "Which tokenizer the output takes.",
      resolve: ({ plan }) => plan.tokenizer,
    }),
    cachedVersion: t.prismaField({
      type: Version,
      nullable: true,
      description:
        "A result of the same recipe on CPU that exists already and passed its checks; other devices have other bytes.",
      resolve: (query, { plan, recipeDigest }, _, { db, viewer }) =>
        plan.refusals.length > 0
          ? null
          : db.version.findFirst({
              ...query,
              where: {
                AND: [
                  visibleTo(viewer).version,
                  {
                    merges: { some: { recipe: { digest: recipeDigest }, ...SOUND, device: "CPU" } },
                  },
                ],
              },
              orderBy: { id: "desc" },
            }),
    }),
  }),
});

inquiry("mergePlan", {
  description: "What a merge would do; nothing is changed and no model file is read.",
  input: recipeFields,
  fields: PLAN_FIELDS,
  resolve: async (input, context) => ({ plan: await planFor(context, await toPlanRequest(context, input)) }),
  payload: (t) => ({
    plan: t.expose("plan", {
      type: MergePlan,
      nullable: true,
      description: "The plan, refused or not; null where the input is wrong.",
    }),
  }),
});
