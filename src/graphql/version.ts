import { AppError } from "../core/errors.ts";
import { mayWrite } from "../core/permissions.ts";
import { formatVersionRef } from "../core/refs.ts";
import { resolveVersion } from "../registry/models.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder } from "./builder.ts";
import { ModelKind, VersionOrigin } from "./enums.ts";
import { File } from "./file.ts";
import { Finding, readFindings } from "./finding.ts";

export const Version = builder.prismaNode("Version", {
  id: { field: "id" },
  nullable: true,
  description: "One immutable set of bytes of a model.",
  select: { id: true, namespaceId: true, model: { select: { visibility: true } } },
  fields: (t) => ({
    ref: t.string({
      description: "`owner/name@number`: what a person writes.",
      select: { number: true, model: { select: { name: true, namespace: { select: { name: true } } } } },
      resolve: ({ number, model }) =>
        formatVersionRef({ namespace: model.namespace.name, name: model.name }, number),
    }),
    number: t.exposeInt("number", {
      description: "Counts from 1 within the model: the 7 of `owner/name@7`.",
    }),
    model: t.relation("model", { description: "The line it belongs to.", nullable: true }),
    kind: t.field({
      type: ModelKind,
      description: "What it is: its model's kind.",
      select: { model: { select: { kind: true } } },
      resolve: ({ model }) => model.kind,
    }),
    origin: t.expose("origin", { type: VersionOrigin, description: "How the version came to be." }),
    digest: t.expose("digest", {
      type: "Sha256",
      description: "Digest over the weights digest and the files that change what the model does.",
    }),
    weightsDigest: t.expose("weightsDigest", {
      type: "Sha256",
      description: "Digest over every tensor's name, dtype, shape and digest; the same for any sharding.",
    }),
    sizeBytes: t.expose("sizeBytes", { type: "BigInt", description: "Bytes of all files together." }),
    parameters: t.expose("parameters", { type: "BigInt", description: "How many numbers the tensors hold." }),
    tensorCount: t.exposeInt("tensorCount", { description: "How many tensors there are." }),
    dtype: t.exposeString("dtype", {
      description: "The dtype of most of the parameters, as safetensors writes it.",
    }),
    architecture: t.exposeString("architecture", {
      nullable: true,
      description: "The first of `architectures` in config.json, for example LlamaForCausalLM.",
    }),
    modelType: t.exposeString("modelType", {
      nullable: true,
      description: "`model_type` of config.json, for example llama.",
    }),
    config: t.field({
      type: "JSON",
      nullable: true,
      description: "config.json; null for an adapter.",
      select: { config: true, model: { select: { kind: true } } },
      resolve: ({ config, model }) => (model.kind === "ADAPTER" ? null : config),
    }),
    adapterConfig: t.field({
      type: "JSON",
      nullable: true,
      description: "adapter_config.json; null for a full checkpoint.",
      select: { config: true, model: { select: { kind: true } } },
      resolve: ({ config, model }) => (model.kind === "ADAPTER" ? config : null),
    }),
    hasCode: t.exposeBoolean("hasCode", {
      description: "The repository ships Python code (carried, never run).",
    }),
    warnings: t.field({
      type: [Finding],
      description: "What was odd about the files when they were read.",
      select: { warnings: true },
      resolve: ({ warnings }) => readFindings(warnings),
    }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was recorded." }),
    location: t.string({
      nullable: true,
      description:
        "The folder on the server that holds the files; told only to those who may edit the model.",
      select: { location: true },
      resolve: ({ location, namespaceId }, _, { viewer }) =>
        mayWrite(viewer, namespaceId) ? location : null,
    }),
    files: t.relatedConnection(
      "files",
      {
        type: File,
        description: "The files, by path.",
        cursor: "id",
        nullable: true,
        totalCount: true,
        query: { orderBy: [{ path: "asc" }] },
      },
      { name: "FileConnection" },
      { name: "FileEdge" },
    ),
  }),
});

export const VersionEdge = builder.edgeObject({ type: Version, name: "VersionEdge" });

/** Shared by every list of versions. Pothos counts at once under a relation, and lazily at the root. */
export const VersionConnection = builder.connectionObject(
  {
    type: Version,
    name: "VersionConnection",
    fields: (t) => ({
      totalCount: t.int({
        extensions: { pothosPrismaTotalCount: true },
        resolve: (page) => {
          const { totalCount } = page as { totalCount?: number | (() => Promise<number>) };
          return (typeof totalCount === "function" ? totalCount() : totalCount) as number;
        },
      }),
    }),
  },
  VersionEdge,
);

builder.queryFields((t) => ({
  version: t.prismaField({
    type: Version,
    nullable: true,
    description: "The version that a reference names; null where there is none that the viewer may see.",
    args: {
      ref: t.arg.string({
        required: true,
        description:
          "`owner/name@7` by number, `owner/name` for the newest, `owner/name@sha256:…` or `@sha256:…` by digest.",
      }),
    },
    resolve: async (query, _, { ref }, context) => {
      try {
        const { id } = await resolveVersion(context, ref);
        return await context.db.version.findUnique({ ...query, where: { id } });
      } catch (error) {
        if (error instanceof AppError && error.code === "NOT_FOUND") return null;
        throw error;
      }
    },
  }),
  versions: t.prismaConnection(
    {
      type: Version,
      cursor: "id",
      nullable: true,
      description: "The versions with these bytes that the viewer may see: two namespaces may hold the same.",
      args: { digest: t.arg({ type: "Sha256", required: true, description: "A version digest." }) },
      totalCount: (_, { digest }, { db, viewer }) =>
        db.version.count({ where: { AND: [visibleTo(viewer).version, { digest }] } }),
      resolve: (query, _, { digest }, { db, viewer }) =>
        db.version.findMany({
          ...query,
          where: { AND: [visibleTo(viewer).version, { digest }] },
          orderBy: [{ createdAt: "asc" }, { id: "asc" }],
        }),
    },
    VersionConnection,
    VersionEdge,
  ),
}));
