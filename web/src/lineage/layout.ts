/**
 * Places a lineage graph from left (what things were made from) to right (what was made). Pure, deterministic: the
 * same graph gives the same picture, whatever order its nodes and edges arrive in.
 *
 * The column of a node is the length of the longest path that leads to it, so every edge points to the right. An
 * edge over several columns gets a place of its own in each column between, and so passes beside the nodes there.
 */

export interface LayoutEdge {
  readonly from: string;
  readonly to: string;
}

export interface LayoutSize {
  /** All lengths are in user units of the SVG (CSS pixels at 100 %). */
  readonly nodeWidth: number;
  readonly nodeHeight: number;
  /** Height of the way that an edge takes past the nodes of a column. */
  readonly laneHeight: number;
  /** Room between columns, for the edges and their labels. */
  readonly gapX: number;
  readonly gapY: number;
  /** Room around the whole picture, for focus rings. */
  readonly margin: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** `x` and `y` are the top left corner. */
export interface PlacedNode extends Point {
  readonly id: string;
  readonly column: number;
}

export interface PlacedEdge<E extends LayoutEdge> {
  readonly edge: E;
  /** From the right side of `from` to the left side of `to`, through the places between. */
  readonly points: readonly Point[];
  /** Where a label fits: the middle of the edge. */
  readonly label: Point;
}

export interface Layout<E extends LayoutEdge> {
  readonly nodes: readonly PlacedNode[];
  readonly edges: readonly PlacedEdge<E>[];
  readonly width: number;
  readonly height: number;
}

export const SIZE: LayoutSize = {
  nodeWidth: 240,
  nodeHeight: 60,
  laneHeight: 16,
  gapX: 124,
  gapY: 24,
  margin: 12,
};

/** A node, or a place that an edge passes through. */
interface Slot {
  readonly id: string;
  readonly column: number;
  readonly isNode: boolean;
  readonly left: Slot[];
  readonly right: Slot[];
  row: number;
}

interface Chain<E extends LayoutEdge> {
  readonly edge: E;
  readonly slots: readonly Slot[];
}

/**
 * Lays out `ids` and the edges among them; an edge with an end that is not in `ids`, and one that would close a
 * cycle, is left out.
 */
export function layoutLineage<E extends LayoutEdge>(
  ids: readonly string[],
  edges: readonly E[],
  size: LayoutSize = SIZE,
): Layout<E> {
  const known = [...new Set(ids)].sort();
  const shown = new Set(known);
  const inner = edges
    .filter((edge) => edge.from !== edge.to && shown.has(edge.from) && shown.has(edge.to))
    .sort((a, b) => compare(a.from, b.from) || compare(a.to, b.to));
  const forward = dropBackEdges(known, inner);
  const columnOf = longestPaths(known, forward);
  const slots = new Map(known.map((id) => [id, slot(id, columnOf.get(id)!, true)]));
  const chains = forward.map((edge) => chain(edge, slots));
  const columns = intoColumns([...slots.values(), ...chains.flatMap((c) => c.slots.slice(1, -1))]);
  orderRows(columns);
  return place({ columns, chains, size });
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const slot = (id: string, column: number, isNode: boolean): Slot => ({
  id,
  column,
  isNode,
  left: [],
  right: [],
  row: 0,
});

function outgoing<E extends LayoutEdge>(edges: readonly E[]): Map<string, E[]> {
  return Map.groupBy(edges, (edge) => edge.from);
}

/** Depth first without recursion (a lineage can be deep); an edge back to a node still open closes a cycle. */
function dropBackEdges<E extends LayoutEdge>(ids: readonly string[], edges: readonly E[]): E[] {
  const from = outgoing(edges);
  const state = new Map<string, "open" | "done">();
  const back = new Set<E>();
  for (const root of ids) {
    if (state.has(root)) continue;
    const stack = [{ id: root, next: 0 }];
    state.set(root, "open");
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const edge = from.get(top.id)?.[top.next++];
      if (edge === undefined) {
        state.set(top.id, "done");
        stack.pop();
      } else if (state.get(edge.to) === "open") back.add(edge);
      else if (!state.has(edge.to)) {
        state.set(edge.to, "open");
        stack.push({ id: edge.to, next: 0 });
      }
    }
  }
  return edges.filter((edge) => !back.has(edge));
}

/** Column of each node: edges are taken in topological order (Kahn), each pushes its end to the right. */
function longestPaths(ids: readonly string[], edges: readonly LayoutEdge[]): Map<string, number> {
  const from = outgoing(edges);
  const waiting = new Map(ids.map((id) => [id, 0]));
  for (const edge of edges) waiting.set(edge.to, waiting.get(edge.to)! + 1);
  const column = new Map(ids.map((id) => [id, 0]));
  const ready = ids.filter((id) => waiting.get(id) === 0);
  for (let id = ready.pop(); id !== undefined; id = ready.pop()) {
    for (const { to } of from.get(id) ?? []) {
      column.set(to, Math.max(column.get(to)!, column.get(id)! + 1));
      waiting.set(to, waiting.get(to)! - 1);
      if (waiting.get(to) === 0) ready.push(to);
    }
  }
  return column;
}

function chain<E extends LayoutEdge>(edge: E, nodes: ReadonlyMap<string, Slot>): Chain<E> {
  const start = nodes.get(edge.from)!;
  const end = nodes.get(edge.to)!;
  const between = Array.from({ length: end.column - start.column - 1 }, (_, i) =>
    slot(`${edge.from} ${edge.to}`, start.column + 1 + i, false),
  );
  const slots = [start, ...between, end];
  for (let i = 1; i < slots.length; i++) {
    slots[i - 1]!.right.push(slots[i]!);
    slots[i]!.left.push(slots[i - 1]!);
  }
  return { edge, slots };
}

function intoColumns(slots: readonly Slot[]): Slot[][] {
  const columns: Slot[][] = [];
  for (const item of slots) {
    columns[item.column] ??= [];
    columns[item.column]!.push(item);
  }
  for (const column of columns) number(column);
  return columns;
}

function number(column: readonly Slot[]): void {
  column.forEach((item, row) => {
    item.row = row;
  });
}

/** Sweeps right, then left, moving each slot to the average height of its neighbours: few crossings, quickly. */
function orderRows(columns: readonly Slot[][]): void {
  for (let sweep = 0; sweep < 4; sweep++) {
    const [order, side] =
      sweep % 2 === 0 ? ([columns, "left"] as const) : ([[...columns].reverse(), "right"] as const);
    for (const column of order) {
      const wish = new Map(column.map((item) => [item, mean(item[side].map((n) => n.row)) ?? item.row]));
      column.sort((a, b) => wish.get(a)! - wish.get(b)!);
      number(column);
    }
  }
}

const mean = (values: readonly number[]): number | null =>
  values.length === 0 ? null : values.reduce((a, b) => a + b, 0) / values.length;

interface Placing<E extends LayoutEdge> {
  readonly columns: readonly Slot[][];
  readonly chains: readonly Chain<E>[];
  readonly size: LayoutSize;
}

function place<E extends LayoutEdge>({ columns, chains, size }: Placing<E>): Layout<E> {
  const { nodeWidth, gapX, margin } = size;
  const { middles, height } = rowMiddles(columns, size);
  const x = (item: Slot) => margin + item.column * (nodeWidth + gapX);
  const y = (item: Slot) => margin + middles.get(item)!;
  return {
    nodes: columns
      .flat()
      .filter((item) => item.isNode)
      .map((item) => ({ id: item.id, column: item.column, x: x(item), y: y(item) - size.nodeHeight / 2 })),
    edges: chains.map(({ edge, slots }) => {
      const points = slots.flatMap((item, i) => {
        const left = { x: x(item), y: y(item) };
        const right = { x: x(item) + nodeWidth, y: y(item) };
        return i === 0 ? [right] : i === slots.length - 1 ? [left] : [left, right];
      });
      return { edge, points, label: halfway(points) };
    }),
    width: Math.max(0, columns.length * (nodeWidth + gapX) - gapX) + 2 * margin,
    height: height + 2 * margin,
  };
}

/** Height of the middle of every slot, margin apart, and of the tallest column; shorter ones stand in the middle. */
function rowMiddles(columns: readonly Slot[][], { nodeHeight, laneHeight, gapY }: LayoutSize) {
  const tall = (item: Slot) => (item.isNode ? nodeHeight : laneHeight);
  const heights = columns.map((column) => column.reduce((sum, item) => sum + tall(item) + gapY, -gapY));
  const height = Math.max(0, ...heights);
  const middles = new Map<Slot, number>();
  columns.forEach((column, i) => {
    let top = (height - heights[i]!) / 2;
    for (const item of column) {
      middles.set(item, top + tall(item) / 2);
      top += tall(item) + gapY;
    }
  });
  return { middles, height };
}

function halfway(points: readonly Point[]): Point {
  const right = Math.floor(points.length / 2);
  const [a, b] = [points[right - 1]!, points[right]!];
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/** The `d` of a path through the points: level at each of them, curved between. */
export function curve(points: readonly Point[]): string {
  return points
    .map((p, i) => {
      const before = points[i - 1];
      if (before === undefined) return `M${p.x} ${p.y}`;
      const bend = (before.x + p.x) / 2;
      return `C${bend} ${before.y} ${bend} ${p.y} ${p.x} ${p.y}`;
    })
    .join("");
}
