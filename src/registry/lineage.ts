import type { LineageRelation, LineageRole } from "../../prisma/client/client.ts";
import { Prisma } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import type { Viewer } from "../core/permissions.ts";
import type { ViewerContext } from "./context.ts";

/** Deeper than any real lineage, and shallow enough for one query. */
export const MAX_LINEAGE_DEPTH = 50;
/** More edges than this are not a drawing any more; `lineageCounts` tells before. */
export const MAX_LINEAGE_EDGES = 2000;

/** An edge as a walk met it. */
export interface WalkedEdge {
  readonly id: string;
  readonly namespaceId: string;
  readonly parentId: string;
  readonly childId: string;
  readonly relation: LineageRelation;
  readonly role: LineageRole;
  readonly weight: number | null;
  readonly position: number;
  readonly parentDigest: string;
  readonly recipeDigest: string | null;
  readonly createdAt: Date;
  /** Steps from the version where the walk began: 1 for its own parents or children. */
  readonly depth: number;
}

export interface WalkRequest {
  readonly versionId: string;
  /** Default 10. */
  readonly maxDepth?: number | null | undefined;
}

type LineageContext = Pick<ViewerContext, "db" | "viewer">;

/**
 * What a version came from, nearest first, by one recursive query: an edge once, at its least depth. Stops at what the
 * viewer may not see, and does not walk through it to what lies behind. Empty for a version that is hidden itself.
 * @throws BAD_INPUT for a depth beyond the limit
 */
export async function ancestors(ctx: LineageContext, request: WalkRequest): Promise<WalkedEdge[]> {
  return await walk(ctx, "up", request);
}

/** What came from a version; otherwise as `ancestors`. */
export async function descendants(ctx: LineageContext, request: WalkRequest): Promise<WalkedEdge[]> {
  return await walk(ctx, "down", request);
}

/** The edges to what a version was made from directly, the base first. */
export async function parents(ctx: LineageContext, versionId: string): Promise<WalkedEdge[]> {
  return await walk(ctx, "up", { versionId, maxDepth: 1 });
}

/** The edges to what was made from a version directly. */
export async function children(ctx: LineageContext, versionId: string): Promise<WalkedEdge[]> {
  return await walk(ctx, "down", { versionId, maxDepth: 1 });
}

export interface LineageCounts {
  readonly ancestors: number;
  readonly descendants: number;
}

/** How many versions `ancestors` and `descendants` would reach, to measure before drawing. */
export async function lineageCounts(ctx: LineageContext, request: WalkRequest): Promise<LineageCounts> {
  const depth = readDepth(request.maxDepth);
  const [row] = await ctx.db.$queryRaw<{ ancestors: bigint; descendants: bigint }[]>`
    select
      (with recursive ${walkSql(ctx.viewer, "up", request.versionId, depth)}
        select count(distinct parent_id) from walk) as ancestors,
      (with recursive ${walkSql(ctx.viewer, "down", request.versionId, depth)}
        select count(distinct child_id) from walk) as descendants`;
  return { ancestors: Number(row?.ancestors ?? 0), descendants: Number(row?.descendants ?? 0) };
}

type Direction = "up" | "down";

async function walk(ctx: LineageContext, direction: Direction, request: WalkRequest): Promise<WalkedEdge[]> {
  const depth = readDepth(request.maxDepth);
  return await ctx.db.$queryRaw<WalkedEdge[]>`
    with recursive ${walkSql(ctx.viewer, direction, request.versionId, depth)},
    nearest as (select id, min(depth) as depth from walk group by id)
    select e.id::text as id, e.namespace_id::text as "namespaceId", e.parent_id::text as "parentId",
      e.child_id::text as "childId", e.relation::text as relation, e.role::text as role, e.weight, e.position,
      e.parent_digest as "parentDigest", e.recipe_digest as "recipeDigest", e.created_at as "createdAt", n.depth
    from nearest n join lineage_edges e on e.id = n.id
    order by n.depth, e.child_id, e.relation, e.position, e.id
    limit ${MAX_LINEAGE_EDGES}`;
}

/** The recursive term: `union` drops what was met at the same depth, so a lattice of diamonds does not multiply. */
function walkSql(viewer: Viewer, direction: Direction, versionId: string, depth: number): Prisma.Sql {
  const from = direction === "up" ? Prisma.sql`child_id` : Prisma.sql`parent_id`;
  const to = direction === "up" ? Prisma.sql`parent_id` : Prisma.sql`child_id`;
  return Prisma.sql`
    visible as not materialized (
      select v.id from versions v join models m on m.id = v.model_id
      where ${viewer.isAdmin} or m.visibility = 'PUBLIC' or m.namespace_id = any(${[...viewer.namespaces.keys()]}::uuid[])
    ),
    walk as (
      select e.id, e.parent_id, e.child_id, 1 as depth from lineage_edges e
      where e.${from} = ${versionId}::uuid
        and exists (select 1 from visible v where v.id = e.${from})
        and exists (select 1 from visible v where v.id = e.${to})
      union
      select e.id, e.parent_id, e.child_id, w.depth + 1 from walk w
      join lineage_edges e on e.${from} = w.${to}
      where w.depth < ${depth}::int and exists (select 1 from visible v where v.id = e.${to})
    )`;
}

function readDepth(depth: number | null | undefined): number {
  const value = depth ?? 10;
  if (Number.isInteger(value) && value >= 1 && value <= MAX_LINEAGE_DEPTH) return value;
  throw new AppError("BAD_INPUT", `maxDepth ${value}: 1 to ${MAX_LINEAGE_DEPTH}.`, { field: "maxDepth" });
}
