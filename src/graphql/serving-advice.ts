import type { ServingAdvice as AdviceShape } from "../core/evaluation/advice.ts";
import { mayWrite } from "../core/permissions.ts";
import type { ServingEnvironment as EnvironmentShape } from "../registry/serving-advice.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder, decodeId } from "./builder.ts";
import { Device, ServingChoice, ServingRole } from "./enums.ts";
import {
  ServingCommands,
  ServingEnvironment,
  ServingParity,
  ServingReason,
  ServingRetention,
  ServingSizes,
  ServingTimes,
  sizesOf,
} from "./serving-advice-parts.ts";

const ServedVersion = builder.prismaObject("ServingAdviceInput", {
  name: "ServedVersion",
  description: "One version that an advice is about.",
  fields: (t) => ({
    role: t.expose("role", { type: ServingRole, description: "What the version is to the advice." }),
    weight: t.exposeFloat("weight", {
      nullable: true,
      description: "The adapter's weight; null for the others.",
    }),
    version: t.relation("version", { description: "The version.", nullable: true }),
  }),
});

/** Written from what core parsed. */
const adviceOf = ({ document }: { readonly document: unknown }) => document as AdviceShape;

// Some kilobytes, and nearly every field is of it.
const DOCUMENT = { document: true } as const;

export const ServingAdvice = builder.prismaNode("ServingAdvice", {
  id: { field: "id" },
  nullable: true,
  description:
    "Merged, or separate? What was measured of one model with its adapters, and what follows. Seen by those who see everything that it is about.",
  select: {
    id: true,
    namespaceId: true,
    model: { select: { visibility: true } },
    inputs: {
      orderBy: { position: "asc" },
      select: {
        adviceId: true,
        position: true,
        version: { select: { namespaceId: true, model: { select: { visibility: true } } } },
      },
    },
  },
  fields: (t) => ({
    recommendation: t.field({
      type: ServingChoice,
      description: "How to serve.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).recommendation,
    }),
    reasons: t.field({
      type: [ServingReason],
      description: "What decided first, then what else speaks for either choice.",
      select: DOCUMENT,
      resolve: (row) => [...adviceOf(row).reasons],
    }),
    inputs: t.relation("inputs", {
      type: ServedVersion,
      description: "What it is about: the base, the adapters, and the merged checkpoint where there is one.",
      query: { orderBy: { position: "asc" } },
    }),
    adapters: t.int({
      description: "Adapters of this base that were to be served.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).planned,
    }),
    disk: t.field({
      type: ServingSizes,
      description: "Of all files.",
      select: DOCUMENT,
      resolve: (row) => sizesOf(adviceOf(row), "disk"),
    }),
    memory: t.field({
      type: ServingSizes,
      description: "Of the tensors as they are stored, which a server keeps.",
      select: DOCUMENT,
      resolve: (row) => sizesOf(adviceOf(row), "memory"),
    }),
    mergedExists: t.boolean({
      description: "The merged checkpoint was there; else its sizes are planned.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).mergedExists,
    }),
    times: t.field({
      type: ServingTimes,
      nullable: true,
      description: "How long both take; null where `timesSkipped` says why.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).times,
    }),
    timesSkipped: t.string({
      nullable: true,
      description: "Why nothing was timed.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).timesSkipped,
    }),
    perTokenCost: t.float({
      nullable: true,
      description: "Time of a token with the adapter beside the base over that of the merged model, less 1.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).perTokenCost,
    }),
    parity: t.field({
      type: ServingParity,
      nullable: true,
      description: "Whether the merged model answers alike; null where `paritySkipped` says why.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).parity,
    }),
    paritySkipped: t.string({
      nullable: true,
      description: "Why there is no parity, or no level 2 in it.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).paritySkipped,
    }),
    retention: t.field({
      type: ServingRetention,
      nullable: true,
      description: "What rounding leaves of the change; null where that was not measured.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).retention,
    }),
    quantisedBase: t.string({
      nullable: true,
      description: "Method by which the base is quantised; null: it is not.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).quantisation.base,
    }),
    quantisedTraining: t.string({
      nullable: true,
      description: "Why the adapter seems to be trained on a quantised base; null: it does not.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row).quantisation.training,
    }),
    obstacles: t.stringList({
      description: "Why vLLM would not serve these adapters beside the base; empty: nothing is known.",
      select: DOCUMENT,
      resolve: (row) => [...adviceOf(row).obstacles],
    }),
    commands: t.field({
      type: ServingCommands,
      description:
        "vLLM's command lines: with the folders on the server for those who may edit every model of it, else with references in their place.",
      select: { document: true, commands: true },
      resolve: ({ inputs, commands, document }, _, { viewer }) =>
        inputs.every(({ version }) => mayWrite(viewer, version.namespaceId))
          ? (commands as AdviceShape["commands"])
          : adviceOf({ document }).commands,
    }),
    device: t.expose("device", { type: Device, description: "What multiplied." }),
    environment: t.field({
      type: ServingEnvironment,
      description: "Where it was measured.",
      select: { environment: true },
      resolve: ({ environment }) => environment as unknown as EnvironmentShape,
    }),
    measuredAt: t.expose("measuredAt", { type: "DateTime", description: "When everything was measured." }),
    document: t.field({
      type: "JSON",
      description: "The whole advice, as `graftwork advise --json` prints it.",
      select: DOCUMENT,
      resolve: (row) => adviceOf(row),
    }),
  }),
});

builder.queryField("servingAdvice", (t) =>
  t.prismaField({
    type: ServingAdvice,
    nullable: true,
    description:
      "What was measured last of an adapter or a merged version, and may be seen; null before `servingAdviceStart` has measured any.",
    args: { version: t.arg.id({ required: true, description: "The id of a Version." }) },
    resolve: (query, _, { version }, { db, viewer }) => {
      const { typename, id } = decodeId(version);
      if (typename !== "Version") return null;
      const about = { some: { versionId: id, role: { in: ["ADAPTER" as const, "MERGED" as const] } } };
      return db.servingAdvice.findFirst({
        ...query,
        where: { AND: [visibleTo(viewer).advice, { inputs: about }] },
        orderBy: [{ measuredAt: "desc" }, { id: "desc" }],
      });
    },
  }),
);
