import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { storeEdge } from "../../src/registry/checkpoints.ts";
import type { ViewerContext } from "../../src/registry/context.ts";
import { ancestors, children, descendants, lineageCounts, parents } from "../../src/registry/lineage.ts";
import { canSee, visibleTo } from "../../src/registry/visibility.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
const id: Record<string, string> = {};
const nameOf = (wanted: string) => Object.keys(id).find((name) => id[name] === wanted);

/**
 *      open ──► secret ──► late ──► last        late also from side; `secret` alone is private, in a namespace apart
 *      side ─────────────────┘
 */
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  for (const name of ["open", "secret", "side", "late", "last"]) {
    const version = await s.imported({
      name: name === "secret" ? "hidden/secret" : `public/${name}`,
      kind: "BASE",
      folder: "base",
      salt: name,
      visibility: name === "secret" ? "PRIVATE" : "PUBLIC",
    });
    id[name] = version.id;
  }
  await edge("open", "secret");
  await edge("secret", "late");
  await edge("side", "late", 1);
  await edge("late", "last");
});
afterAll(() => test.close());

async function edge(parent: string, child: string, position = 0): Promise<void> {
  await storeEdge(test.db, {
    parentId: id[parent]!,
    childId: id[child]!,
    relation: "MERGED_FROM",
    role: position === 0 ? "BASE" : "ADAPTER",
    position,
  });
}

const up = async (ctx: ViewerContext, name: string, maxDepth?: number) =>
  (await ancestors(ctx, { versionId: id[name]!, maxDepth })).map((e) => [nameOf(e.parentId), e.depth]);
const down = async (ctx: ViewerContext, name: string, maxDepth?: number) =>
  (await descendants(ctx, { versionId: id[name]!, maxDepth })).map((e) => [nameOf(e.childId), e.depth]);

describe("lineage", () => {
  it("is walked up and down to the depth that was asked for, nearest first", async () => {
    expect(await up(s.admin, "last")).toEqual([
      ["late", 1],
      ["secret", 2],
      ["side", 2],
      ["open", 3],
    ]);
    expect(await up(s.admin, "last", 2)).toEqual([
      ["late", 1],
      ["secret", 2],
      ["side", 2],
    ]);
    expect(await down(s.admin, "open")).toEqual([
      ["secret", 1],
      ["late", 2],
      ["last", 3],
    ]);
    expect((await parents(s.admin, id.late!)).map((e) => [nameOf(e.parentId), e.role])).toEqual([
      ["secret", "BASE"],
      ["side", "ADAPTER"],
    ]);
    expect((await children(s.admin, id.open!)).map((e) => nameOf(e.childId))).toEqual(["secret"]);
  });

  it("does not show what the viewer may not see, nor what lies behind it", async () => {
    const stranger = await s.account("lineage-stranger", { public: "VIEWER" });
    for (const who of [stranger, s.as(ANONYMOUS)]) {
      expect(await up(who, "last")).toEqual([
        ["late", 1],
        ["side", 2],
      ]);
      expect(await down(who, "open")).toEqual([]);
      expect(await up(who, "secret")).toEqual([]);
      expect(await down(who, "secret")).toEqual([]);
      expect(await lineageCounts(who, { versionId: id.last! })).toEqual({ ancestors: 2, descendants: 0 });
    }
    const member = await s.account("lineage-member", { hidden: "VIEWER" });
    expect(await up(member, "last")).toHaveLength(4);
    expect(await lineageCounts(member, { versionId: id.open! })).toEqual({ ancestors: 0, descendants: 3 });
  });

  it("costs one statement, and a lattice of diamonds does not multiply", async () => {
    const layers: string[][] = [];
    for (let layer = 0; layer < 12; layer++) {
      const names = [`${layer}a`, `${layer}b`];
      for (const name of names) {
        const input = { name: `grid/n${name}`, kind: "BASE" as const, folder: "base", salt: name };
        id[name] = (await s.imported(input)).id;
      }
      const above = layers.at(-1) ?? [];
      for (const child of names) for (const [i, parent] of above.entries()) await edge(parent, child, i);
      layers.push(names);
    }
    test.queries.length = 0;
    const found = await ancestors(s.admin, { versionId: id["11a"]!, maxDepth: 50 });
    expect(test.queries).toHaveLength(1);
    expect(found).toHaveLength(2 + 10 * 4);
    expect(await lineageCounts(s.admin, { versionId: id["11a"]!, maxDepth: 50 })).toEqual({
      ancestors: 22,
      descendants: 0,
    });
  });

  it("refuses a depth beyond the limit", async () => {
    await expect(ancestors(s.admin, { versionId: id.last!, maxDepth: 51 })).rejects.toMatchObject({
      code: "BAD_INPUT",
      field: "maxDepth",
    });
  });
});

describe("visibility", () => {
  it("decides the same for a list and for one row, for every kind of viewer", async () => {
    const viewers = [
      s.admin,
      s.as(ANONYMOUS),
      await s.account("vis-member", { hidden: "VIEWER" }),
      await s.account("vis-stranger", { elsewhere: "ADMIN" }),
    ];
    const all = await test.db.version.findMany({ include: { model: true } });
    const jobs = await test.db.job.findMany();
    for (const { viewer } of viewers) {
      const listed = await test.db.version.findMany({
        where: visibleTo(viewer).version,
        select: { id: true },
      });
      const single = all.filter((version) => canSee.version(viewer, version));
      expect(new Set(listed.map((row) => row.id))).toEqual(new Set(single.map((row) => row.id)));
      const listedJobs = await test.db.job.findMany({ where: visibleTo(viewer).job, select: { id: true } });
      const singleJobs = jobs.filter((job) => canSee.job(viewer, job));
      expect(new Set(listedJobs.map((row) => row.id))).toEqual(new Set(singleJobs.map((row) => row.id)));
    }
    const anonymous = await test.db.model.findMany({
      where: visibleTo(ANONYMOUS).model,
      select: { name: true },
    });
    expect(anonymous.map((model) => model.name).sort()).toEqual(["last", "late", "open", "side"]);
    expect(await test.db.lineageEdge.count({ where: visibleTo(ANONYMOUS).edge })).toBe(2);
    expect(await test.db.job.count({ where: visibleTo(ANONYMOUS).job })).toBe(0);
  });
});
