import { describe, expect, test } from "vitest";
import type { LineageEdgeRow, LineageVersion } from "../../web/src/documents.ts";
import {
  buildGraph,
  buildTree,
  cameFrom,
  edgeLabel,
  shorten,
  splitRef,
  type TreeItem,
} from "../../web/src/lineage/graph.ts";

const version = (name: string, kind: LineageVersion["kind"]): LineageVersion => ({
  id: name,
  ref: `demo/${name}@1`,
  kind,
  parameters: "1000",
  dtype: "BF16",
});
const base = version("base", "BASE");
const adapter = version("adapter", "ADAPTER");
const merged = version("merged", "MERGED");

const row = (
  parent: LineageVersion | null,
  child: LineageVersion,
  rest: Pick<LineageEdgeRow, "relation" | "role" | "weight">,
): LineageEdgeRow => ({ parent, child, ...rest });
const TRAINED = { relation: "TRAINED_ON", role: "BASE", weight: null } as const;
const AS_BASE = { relation: "MERGED_FROM", role: "BASE", weight: null } as const;
const AS_ADAPTER = { relation: "MERGED_FROM", role: "ADAPTER", weight: 1 } as const;

const side = (...edges: LineageEdgeRow[]) => ({ edges, pageInfo: { hasNextPage: false } });
const counts = (ancestors: number, descendants: number) => ({ ancestors, descendants, truncated: false });

const ALL = [row(base, adapter, TRAINED), row(base, merged, AS_BASE), row(adapter, merged, AS_ADAPTER)];

function outline(items: readonly TreeItem[], depth = 0): string[] {
  return items.flatMap((item) => [
    `${"  ".repeat(depth)}${item.id}${item.again ? " (again)" : ""}`,
    ...outline(item.children, depth + 1),
  ]);
}

describe("a version's lineage as a graph", () => {
  test("ancestors, descendants and the version itself join into one graph without doubles", () => {
    const [trained, asBase, asAdapter] = ALL;
    const graph = buildGraph({
      ...adapter,
      ancestors: side(trained!),
      descendants: side(asAdapter!, asBase!, trained!),
      lineageCounts: counts(1, 1),
    });
    expect([...graph.nodes.keys()].sort()).toEqual(["adapter", "base", "merged"]);
    expect(graph.edges).toHaveLength(3);
    expect(graph.here).toBe("adapter");
    expect(graph.hidden).toBe(0);
  });

  test("an edge whose parent the viewer may not see is left out", () => {
    const graph = buildGraph({
      ...merged,
      ancestors: side(row(null, merged, AS_BASE), row(adapter, merged, AS_ADAPTER)),
      descendants: null,
      lineageCounts: null,
    });
    expect(graph.edges.map((edge) => edge.from)).toEqual(["adapter"]);
    expect(graph.hidden).toBeNull();
  });

  test("relatives beyond the first page are counted as hidden", () => {
    const graph = buildGraph({
      ...base,
      ancestors: side(),
      descendants: side(ALL[0]!),
      lineageCounts: counts(0, 140),
    });
    expect(graph.hidden).toBe(139);
  });

  test("the list starts at what has no parents and names a version again under each parent", () => {
    const graph = buildGraph({
      ...merged,
      ancestors: side(...ALL),
      descendants: null,
      lineageCounts: null,
    });
    expect(outline(buildTree(graph))).toEqual(["base", "  adapter", "    merged", "  merged (again)"]);
  });

  test("edges say how the child came from the parent", () => {
    expect([TRAINED, AS_BASE, AS_ADAPTER, { ...AS_ADAPTER, weight: 1 / 3 }].map(edgeLabel)).toEqual([
      "trained on",
      "base",
      "adapter × 1",
      "adapter × 0.3333",
    ]);
    expect([TRAINED, AS_ADAPTER].map(cameFrom)).toEqual([
      "trained on the above",
      "merged, the above as adapter × 1",
    ]);
  });

  test("a reference has an owner and a rest", () => {
    expect(splitRef("demo/base@7")).toEqual(["demo", "base@7"]);
    expect(splitRef("@sha256:ab")).toEqual(["", "@sha256:ab"]);
  });

  test("a long reference loses its middle, never its version", () => {
    expect(shorten("demo/base@1", 22)).toBe("demo/base@1");
    const short = shorten("somebody/a-very-long-model-name@12", 22);
    expect(short).toHaveLength(22);
    expect(short).toMatch(/^somebody….*model-name@12$/);
  });
});
