import { queryFromInfo } from "@pothos/plugin-prisma";
import type { PageInfoShape } from "@pothos/plugin-relay";
import type { GraphQLResolveInfo } from "graphql";
import {
  ancestors,
  children,
  descendants,
  lineageCounts,
  MAX_LINEAGE_EDGES,
  parents,
  type WalkedEdge,
} from "../registry/lineage.ts";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { LineageRelation, LineageRole } from "./enums.ts";
import { pageAfter, pageInfo } from "./page.ts";
import { Version } from "./version.ts";

type VersionRow = typeof Version.$inferType;

interface EdgeShape extends Omit<WalkedEdge, "id" | "namespaceId" | "position" | "createdAt"> {
  readonly cursor: string;
  readonly node: VersionRow | null;
  readonly parent: VersionRow | null;
  readonly child: VersionRow | null;
}

const LineageEdge = builder.objectRef<EdgeShape>("LineageEdge").implement({
  description: "Parent version → child version: how one came from the other.",
  fields: (t) => ({
    cursor: t.exposeString("cursor", { description: "The edge's place in the list, for `after`." }),
    node: t.expose("node", {
      type: Version,
      nullable: true,
      description: "The far end: the parent in parents and ancestors, the child in children and descendants.",
    }),
    parent: t.expose("parent", { type: Version, nullable: true, description: "What the child came from." }),
    child: t.expose("child", { type: Version, nullable: true, description: "What came from the parent." }),
    relation: t.expose("relation", {
      type: LineageRelation,
      description: "How the child came from the parent.",
    }),
    role: t.expose("role", { type: LineageRole, description: "What the parent was to the child." }),
    weight: t.exposeFloat("weight", {
      nullable: true,
      description: "The adapter's weight in the merge; null for a base.",
    }),
    parentDigest: t.expose("parentDigest", {
      type: "Sha256",
      description: "The parent's digest when the child was made.",
    }),
    recipeDigest: t.expose("recipeDigest", {
      type: "Sha256",
      nullable: true,
      description: "The recipe that made the child; null where no recipe did.",
    }),
    depth: t.exposeInt("depth", {
      description: "Steps from the version that was asked: 1 for its own parents or children.",
    }),
  }),
});

interface ConnectionShape {
  readonly edges: readonly EdgeShape[];
  readonly pageInfo: PageInfoShape;
}

const LineageConnection = builder.objectRef<ConnectionShape>("LineageConnection").implement({
  description: "A page of lineage edges, nearest first.",
  fields: (t) => ({
    edges: t.field({ type: [LineageEdge], description: "The edges.", resolve: ({ edges }) => [...edges] }),
    nodes: t.field({
      type: [Version],
      nullable: { list: false, items: true },
      description: "Their far ends; a version with two edges stands there twice.",
      resolve: ({ edges }) => edges.map(({ node }) => node),
    }),
    pageInfo: t.expose("pageInfo", {
      type: builder.pageInfoRef(),
      description: "Where this page stands in its list.",
    }),
  }),
});

type Walk = (
  ctx: GraphContext,
  versionId: string,
  args: { maxDepth?: number | null | undefined },
) => Promise<WalkedEdge[]>;

interface PageArgs {
  readonly first?: number | null | undefined;
  readonly after?: string | null | undefined;
  readonly relation?: readonly string[] | null | undefined;
  readonly maxDepth?: number | null | undefined;
}

interface Resolving {
  readonly walk: Walk;
  readonly far: "parentId" | "childId";
  readonly versionId: string;
  readonly args: PageArgs;
  readonly context: GraphContext;
  readonly info: GraphQLResolveInfo;
}

/** Two statements whatever the depth: the recursive walk, and the versions of one page of it. */
async function lineagePage(resolving: Resolving): Promise<ConnectionShape> {
  const { walk, far, versionId, args, context, info } = resolving;
  const walked = await walk(context, versionId, args);
  const wanted = args.relation ? walked.filter(({ relation }) => args.relation?.includes(relation)) : walked;
  const { items, hasNextPage } = pageAfter(wanted, args, (edge) => edge.id);
  const versions = await loadVersions(items, context, info);
  const edges = items.map((edge) => ({
    ...edge,
    cursor: edge.id,
    node: versions.get(edge[far]) ?? null,
    parent: versions.get(edge.parentId) ?? null,
    child: versions.get(edge.childId) ?? null,
  }));
  const keys = items.map(({ id }) => id);
  return { edges, pageInfo: pageInfo(keys, { hasNextPage, hasPreviousPage: Boolean(args.after) }) };
}

async function loadVersions(edges: readonly WalkedEdge[], context: GraphContext, info: GraphQLResolveInfo) {
  const ids = [...new Set(edges.flatMap(({ parentId, childId }) => [parentId, childId]))];
  if (ids.length === 0) return new Map<string, VersionRow>();
  const query = queryFromInfo({
    context,
    info,
    typeName: "Version",
    paths: [["nodes"], ["edges", "node"], ["edges", "parent"], ["edges", "child"]],
  });
  const rows = await context.db.version.findMany({ ...(query as object), where: { id: { in: ids } } });
  return new Map(rows.map((row) => [row.id, row as unknown as VersionRow]));
}

const WALKS = {
  parents: { far: "parentId", walk: (ctx: GraphContext, id: string) => parents(ctx, id) },
  children: { far: "childId", walk: (ctx: GraphContext, id: string) => children(ctx, id) },
  ancestors: {
    far: "parentId",
    walk: (ctx: GraphContext, versionId: string, args: PageArgs) =>
      ancestors(ctx, { versionId, maxDepth: args.maxDepth }),
  },
  descendants: {
    far: "childId",
    walk: (ctx: GraphContext, versionId: string, args: PageArgs) =>
      descendants(ctx, { versionId, maxDepth: args.maxDepth }),
  },
} as const;

const LineageCounts = builder
  .objectRef<{ ancestors: number; descendants: number }>("LineageCounts")
  .implement({
    description: "How much lineage there is, to measure before drawing.",
    fields: (t) => ({
      ancestors: t.exposeInt("ancestors", { description: "Versions that `ancestors` would reach." }),
      descendants: t.exposeInt("descendants", { description: "Versions that `descendants` would reach." }),
      truncated: t.boolean({
        description: `More than the ${MAX_LINEAGE_EDGES} edges that one walk hands out.`,
        resolve: (counts) => Math.max(counts.ancestors, counts.descendants) > MAX_LINEAGE_EDGES,
      }),
    }),
  });

const first = "How many edges (0 to 100; 20 if not said).";
const after = "Only edges after this cursor of this list.";
const depth = "How many steps to walk, 1 to 50.";

builder.prismaObjectFields(Version, (t) => {
  const direct = (name: "parents" | "children", description: string) =>
    t.field({
      type: LineageConnection,
      nullable: true,
      description,
      args: {
        first: t.arg.int({ description: first }),
        after: t.arg.string({ description: after }),
        relation: t.arg({ type: [LineageRelation], description: "Only edges of these relations." }),
      },
      resolve: ({ id }, args, context, info) =>
        lineagePage({ ...WALKS[name], versionId: id, args, context, info }),
    });
  const walked = (name: "ancestors" | "descendants", description: string) =>
    t.field({
      type: LineageConnection,
      nullable: true,
      description,
      args: {
        first: t.arg.int({ description: first }),
        after: t.arg.string({ description: after }),
        maxDepth: t.arg.int({ defaultValue: 10, description: depth }),
      },
      resolve: ({ id }, args, context, info) =>
        lineagePage({ ...WALKS[name], versionId: id, args, context, info }),
    });
  return {
    parents: direct("parents", "What it was made from or trained on, the base first."),
    children: direct("children", "What was made from it or trained on it."),
    ancestors: walked(
      "ancestors",
      "Everything it came from, nearest first; does not walk through what is hidden.",
    ),
    descendants: walked("descendants", "Everything that came from it, nearest first; likewise."),
    lineageCounts: t.field({
      type: LineageCounts,
      nullable: true,
      description: "How many versions `ancestors` and `descendants` would reach.",
      args: { maxDepth: t.arg.int({ defaultValue: 10, description: depth }) },
      resolve: ({ id }, { maxDepth }, context) => lineageCounts(context, { versionId: id, maxDepth }),
    }),
  };
});
