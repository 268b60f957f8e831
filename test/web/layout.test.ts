import { describe, expect, test } from "vitest";
import { curve, type Layout, type LayoutEdge, layoutLineage, SIZE } from "../../web/src/lineage/layout.ts";

const edges = (...pairs: string[]): LayoutEdge[] =>
  pairs.map((pair) => {
    const [from, to] = pair.split(">");
    return { from: from!, to: to! };
  });

/** Columns of a layout as sorted lists of ids, left to right. */
function columns({ nodes }: Layout<LayoutEdge>): string[][] {
  const result: string[][] = [];
  for (const { id, column } of nodes) {
    result[column] ??= [];
    result[column].push(id);
  }
  return result.map((column) => column.sort());
}

function overlaps({ nodes }: Layout<LayoutEdge>): string[] {
  return nodes.flatMap((a, i) =>
    nodes
      .slice(i + 1)
      .filter((b) => Math.abs(a.x - b.x) < SIZE.nodeWidth && Math.abs(a.y - b.y) < SIZE.nodeHeight)
      .map((b) => `${a.id}/${b.id}`),
  );
}

/** Whether the point lies on a node. */
const hits = ({ nodes }: Layout<LayoutEdge>, x: number, y: number): string[] =>
  nodes
    .filter((n) => x > n.x && x < n.x + SIZE.nodeWidth && y > n.y && y < n.y + SIZE.nodeHeight)
    .map((n) => n.id);

describe("the lineage graph's layout", () => {
  test("a merge stands right of its adapter, which stands right of its base", () => {
    const layout = layoutLineage(
      ["base", "adapter", "merged"],
      edges("base>adapter", "base>merged", "adapter>merged"),
    );
    expect(columns(layout)).toEqual([["base"], ["adapter"], ["merged"]]);
  });

  test("an edge over a column passes beside the nodes there, and so does its label", () => {
    const layout = layoutLineage(
      ["base", "adapter", "merged"],
      edges("base>adapter", "base>merged", "adapter>merged"),
    );
    const long = layout.edges.find(({ edge }) => edge.from === "base" && edge.to === "merged")!;
    expect(long.points).toHaveLength(4);
    for (const point of [...long.points.slice(1, -1), long.label]) {
      expect(hits(layout, point.x, point.y)).toEqual([]);
    }
  });

  test("a diamond puts both ways side by side and its ends in the middle", () => {
    const layout = layoutLineage(["a", "b", "c", "d"], edges("a>b", "a>c", "b>d", "c>d"));
    expect(columns(layout)).toEqual([["a"], ["b", "c"], ["d"]]);
    const y = Object.fromEntries(layout.nodes.map((n) => [n.id, n.y]));
    expect(y.a).toBe((y.b! + y.c!) / 2);
    expect(y.d).toBe(y.a);
  });

  test("the column is the longest path, not the shortest", () => {
    const layout = layoutLineage(["a", "b", "c", "d"], edges("a>d", "a>b", "b>c", "c>d"));
    expect(layout.nodes.find((n) => n.id === "d")!.column).toBe(3);
  });

  test("forty adapters of one base stand in one column without touching", () => {
    const adapters = Array.from({ length: 40 }, (_, i) => `adapter-${i}`);
    const layout = layoutLineage(
      ["base", ...adapters],
      adapters.map((to) => ({ from: "base", to })),
    );
    expect(columns(layout).map((c) => c.length)).toEqual([1, 40]);
    expect(overlaps(layout)).toEqual([]);
    expect(layout.height).toBe(40 * SIZE.nodeHeight + 39 * SIZE.gapY + 2 * SIZE.margin);
  });

  test("every edge runs to the right, starts at its parent and ends at its child", () => {
    const layout = layoutLineage(
      ["a", "b", "c", "d", "e"],
      edges("a>b", "a>c", "b>d", "c>d", "a>e", "d>e", "b>e"),
    );
    const node = new Map(layout.nodes.map((n) => [n.id, n]));
    for (const { edge, points } of layout.edges) {
      const xs = points.map((p) => p.x);
      expect(xs).toEqual([...xs].sort((a, b) => a - b));
      expect(points[0]).toEqual({
        x: node.get(edge.from)!.x + SIZE.nodeWidth,
        y: node.get(edge.from)!.y + SIZE.nodeHeight / 2,
      });
      expect(points.at(-1)).toEqual({
        x: node.get(edge.to)!.x,
        y: node.get(edge.to)!.y + SIZE.nodeHeight / 2,
      });
    }
  });

  test("two pairs that would cross are untangled", () => {
    const layout = layoutLineage(["a1", "a2", "b1", "b2"], edges("a1>b2", "a2>b1"));
    const y = Object.fromEntries(layout.nodes.map((n) => [n.id, n.y]));
    expect(Math.sign(y.a1! - y.a2!)).toBe(Math.sign(y.b2! - y.b1!));
  });

  test("the picture does not depend on the order in which nodes and edges arrive", () => {
    const ids = ["a", "b", "c", "d", "e"];
    const list = edges("a>b", "a>c", "b>d", "c>d", "a>e", "d>e");
    expect(layoutLineage([...ids].reverse(), [...list].reverse())).toEqual(layoutLineage(ids, list));
  });

  test("a lineage 2,000 deep is laid out", () => {
    const ids = Array.from({ length: 2000 }, (_, i) => String(i).padStart(4, "0"));
    const layout = layoutLineage(
      ids,
      ids.slice(1).map((to, i) => ({ from: ids[i]!, to })),
    );
    expect(layout.nodes.find((n) => n.id === "1999")!.column).toBe(1999);
  });

  test("a cycle, a loop and an edge to a node that is not shown do no harm", () => {
    const layout = layoutLineage(["a", "b"], edges("a>b", "b>a", "a>a", "b>hidden"));
    expect(columns(layout)).toEqual([["a"], ["b"]]);
    expect(layout.edges.map(({ edge }) => `${edge.from}>${edge.to}`)).toEqual(["a>b"]);
  });

  test("nothing is laid out as nothing", () => {
    expect(layoutLineage([], [])).toEqual({ nodes: [], edges: [], width: 24, height: 24 });
  });

  test("an edge's curve is level at both ends", () => {
    expect(
      curve([
        { x: 0, y: 0 },
        { x: 10, y: 4 },
      ]),
    ).toBe("M0 0C5 0 5 4 10 4");
  });
});
