import { mayWrite } from "../core/permissions.ts";
import { formatModelName, parseModelName } from "../core/refs.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder } from "./builder.ts";
import { ModelKind, Visibility } from "./enums.ts";
import { Version, VersionConnection, VersionEdge } from "./version.ts";

export const Model = builder.prismaNode("Model", {
  id: { field: "id" },
  nullable: true,
  description: "A named line of versions, `owner/name`, of one kind.",
  select: { id: true, namespaceId: true, visibility: true },
  fields: (t) => ({
    name: t.string({
      description: "`owner/name`.",
      select: { name: true, namespace: { select: { name: true } } },
      resolve: ({ name, namespace }) => formatModelName({ namespace: namespace.name, name }),
    }),
    namespace: t.relation("namespace", { description: "The owner.", nullable: true }),
    kind: t.expose("kind", { type: ModelKind, description: "What the model is." }),
    visibility: t.expose("visibility", { type: Visibility, description: "Who may see it." }),
    versionCount: t.exposeInt("latestNumber", { description: "How many versions there are." }),
    revision: t.exposeInt("revision", {
      description:
        "Rises with each change of the model itself; send it back to change the model only if nobody else did.",
    }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was created." }),
    updatedAt: t.expose("updatedAt", {
      type: "DateTime",
      description: "When it last changed or got a version.",
    }),
    latestVersion: t.field({
      type: Version,
      nullable: true,
      description: "The newest version; null before the first.",
      select: (_, __, nested) => ({ versions: nested({ take: 1, orderBy: { number: "desc" } }) }),
      // The selection brings what the type needs to be guarded; TypeScript does not see through it.
      resolve: ({ versions }) => (versions[0] ?? null) as typeof Version.$inferType | null,
    }),
    versions: t.relatedConnection(
      "versions",
      {
        description: "All versions, the newest first.",
        cursor: "id",
        nullable: true,
        totalCount: true,
        query: { orderBy: [{ number: "desc" }] },
      },
      VersionConnection,
      VersionEdge,
    ),
    viewerCanEdit: t.boolean({
      description: "Whether the viewer may import into it and merge into it.",
      resolve: ({ namespaceId }, _, { viewer }) => mayWrite(viewer, namespaceId),
    }),
  }),
});

builder.queryFields((t) => ({
  models: t.prismaConnection(
    {
      type: Model,
      cursor: "id",
      nullable: true,
      description: "The models that the viewer may see, the last changed first.",
      args: { kind: t.arg({ type: ModelKind, description: "Only models of this kind." }) },
      totalCount: (_, { kind }, { db, viewer }) =>
        db.model.count({ where: { AND: [visibleTo(viewer).model, kind ? { kind } : {}] } }),
      resolve: (query, _, { kind }, { db, viewer }) =>
        db.model.findMany({
          ...query,
          where: { AND: [visibleTo(viewer).model, kind ? { kind } : {}] },
          orderBy: [{ updatedAt: "desc" }, { id: "desc" }],
        }),
    },
    { name: "ModelConnection" },
    { name: "ModelEdge" },
  ),
  model: t.prismaField({
    type: Model,
    nullable: true,
    description: "The model of this name; null where there is none that the viewer may see.",
    args: { name: t.arg.string({ required: true, description: "`owner/name`." }) },
    resolve: (query, _, args, { db }) => {
      const { namespace, name } = parseModelName(args.name);
      return db.model.findFirst({ ...query, where: { name, namespace: { name: namespace } } });
    },
  }),
}));
