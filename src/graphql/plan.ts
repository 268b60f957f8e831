import { resolveArrayConnection } from "@pothos/plugin-relay";
import { AppError } from "../core/errors.ts";
import { EXACT_NUMERICS, NUMERICS } from "../core/numerics-versions.ts";
import type { MergePlan as PlanShape } from "../core/plan.ts";
import type { ModuleSelection, RecipeChoices } from "../core/recipe.ts";
import { type WorkerRoom as RoomShape, roomOfWorkers } from "../registry/devices.ts";
import { type MergePlanRequest, type PlannedMerge, planFor } from "../registry/merge-plan.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { LineageRole, MergeDtype, Numerics, TiedEmbeddings } from "./enums.ts";
import { Finding } from "./finding.ts";
import { DEFAULT_PAGE, MAX_PAGE } from "./limits.ts";
import { inquiry } from "./payload.ts";
import { Recipe } from "./recipe.ts";
import { Version } from "./version.ts";
import { toRef, VersionRefInput } from "./version-ref.ts";

const role = (from: "base" | "adapter") => (from === "base" ? "BASE" : "ADAPTER");

const PinnedVersionInput = builder.inputType("PinnedVersionInput", {
  description: "A version, and optionally the digest that it must have.",
  fields: (t) => ({
    version: t.field({ type: VersionRefInput, required: true, description: "Which version." }),
    pin: t.field({ type: "Sha256", description: "Refuse the merge unless the version has this digest." }),
  }),
});

const MergeSourceInput = builder.inputType("MergeSourceInput", {
  description: "An adapter that is merged in.",
  fields: (t) => ({
    version: t.field({ type: VersionRefInput, required: true, description: "A version of an adapter." }),
    weight: t.float({ defaultValue: 1, description: "A factor on the adapter's update." }),
    pin: t.field({ type: "Sha256", description: "Refuse the merge unless the version has this digest." }),
  }),
});

const ModuleSelectionInput = builder.inputType("ModuleSelectionInput", {
  description: "Modules of the adapter, matched as PEFT matches target_modules.",
  fields: (t) => ({
    modules: t.stringList({ description: "Names, or ends of names from a dot on, such as `q_proj`." }),
    pattern: t.string({ description: "One regular expression for whole names, instead of `modules`." }),
    layers: t.intList({ description: "Only in these layers; counted from 0." }),
  }),
});

const RecipeChoicesInput = builder.inputType("RecipeChoicesInput", {
  description: "How the merge is computed and stored; each field goes into the recipe.",
  fields: (t) => ({
    dtype: t.field({
      type: MergeDtype,
      description: "Storage type of the output's float tensors; if not said, the base's.",
    }),
    numerics: t.field({
      type: Numerics,
      defaultValue: "PEFT",
      description: "PEFT's own float32 steps, or float64 with one rounding at the end.",
    }),
    ties: t.field({
      type: TiedEmbeddings,
      defaultValue: "PRESERVE",
      description: "What becomes of tied embeddings when only one side is adapted.",
    }),
    include: t.field({ type: ModuleSelectionInput, description: "Merge only these modules." }),
    exclude: t.field({
      type: ModuleSelectionInput,
      description: "Leave these modules as they are in the base.",
    }),
  }),
});

/** The fields that a plan and the merge after it have in common. */
export const recipeFields = builder.inputType("MergePlanInput", {
  description: "What would be merged, and how.",
  fields: (t) => ({
    base: t.field({ type: PinnedVersionInput, required: true, description: "The checkpoint to adapt." }),
    sources: t.field({
      type: [MergeSourceInput],
      required: true,
      description: "The adapters, in order; exactly one for now.",
    }),
    tokenizer: t.field({
      type: LineageRole,
      description:
        "Whose tokenizer the output takes; if not said, the adapter's where it ships one that differs, else the base's.",
    }),
    choices: t.field({ type: RecipeChoicesInput, description: "How it is computed and stored." }),
    strictBase: t.boolean({
      defaultValue: false,
      description:
        "Refuse a base whose name is not the one that the adapter states, or an unpinned revision.",
    }),
  }),
});

export { MergeSourceInput, PinnedVersionInput, RecipeChoicesInput };

type RecipeInput = typeof recipeFields.$inferInput;

/** A plan's input as the registry takes it. */
export async function toPlanRequest(context: GraphContext, input: RecipeInput): Promise<MergePlanRequest> {
  const base = { ref: await toRef(context, input.base.version, "base.ref"), pin: input.base.pin };
  const sources = await Promise.all(
    input.sources.map(async ({ version, weight, pin }, i) => ({
      ref: await toRef(context, version, `sources.${i}.ref`),
      weight,
      pin,
    })),
  );
  const tokenizer = input.tokenizer && (input.tokenizer === "BASE" ? "base" : "adapter");
  return { base, sources, tokenizer, choices: toChoices(input.choices), strictBase: input.strictBase };
}

type ChoicesInput = typeof RecipeChoicesInput.$inferInput;
type SelectionInput = typeof ModuleSelectionInput.$inferInput;

function toChoices(input: ChoicesInput | null | undefined): Partial<RecipeChoices> {
  if (!input) return {};
  return {
    dtype: input.dtype ?? null,
    numerics: input.numerics === "EXACT" ? EXACT_NUMERICS : NUMERICS,
    ties: input.ties === "PEFT" ? "peft" : "preserve",
    include: toSelection(input.include, "choices.include"),
    exclude: toSelection(input.exclude, "choices.exclude"),
  };
}

function toSelection(input: SelectionInput | null | undefined, field: string): ModuleSelection | null {
  if (!input) return null;
  const { modules, pattern, layers } = input;
  if (modules && pattern) {
    throw new AppError("BAD_INPUT", `${field}: name modules or give one pattern, not both.`, { field });
  }
  if (!modules && !pattern && !layers) {
    throw new AppError("BAD_INPUT", `${field}: says nothing; name modules, a pattern or layers.`, { field });
  }
  for (const [name, list] of Object.entries({ modules, layers })) {
    if (list?.length === 0) throw new AppError("BAD_INPUT", `${field}.${name}: is an empty list.`, { field });
  }
  return { modules: pattern ?? modules ?? null, layers: layers ?? null };
}

/** Where a plan's input has what the registry complains about. */
export const PLAN_FIELDS: Readonly<Record<string, string>> = {
  "base.ref": "base.version",
  "base.pin": "base.pin",
  ...Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`sources.${i}.ref`, `sources.${i}.version`])),
};

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
      description: "A result of the same recipe that exists already and passed its checks.",
      resolve: (query, { plan, recipeDigest }, _, { db, viewer }) =>
        plan.refusals.length > 0
          ? null
          : db.version.findFirst({
              ...query,
              where: {
                AND: [
                  visibleTo(viewer).version,
                  {
                    merges: {
                      some: { recipe: { digest: recipeDigest }, state: "SUCCEEDED", verdict: "PASSED" },
                    },
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
