import type { LineageData, LineageEdgeRow, LineageVersion } from "../documents.ts";
import type { LayoutEdge } from "./layout.ts";

export interface GraphEdge extends LayoutEdge {
  readonly relation: "TRAINED_ON" | "MERGED_FROM";
  readonly role: "BASE" | "ADAPTER";
  readonly weight: number | null;
}

export interface Graph {
  /** Id of the version that the graph is about. */
  readonly here: string;
  readonly nodes: ReadonlyMap<string, LineageVersion>;
  readonly edges: readonly GraphEdge[];
  /** How many ancestors and descendants exist but are not shown; null when that is not known. */
  readonly hidden: number | null;
}

/** Joins a version's ancestors and descendants into one graph; what the viewer may not see is left out. */
export function buildGraph(version: NonNullable<LineageData["version"]>): Graph {
  const nodes = new Map<string, LineageVersion>([[version.id, version]]);
  const edges = new Map<string, GraphEdge>();
  const rows = [...(version.ancestors?.edges ?? []), ...(version.descendants?.edges ?? [])];
  for (const row of rows) {
    const { parent, child } = row;
    if (!parent || !child) continue;
    for (const end of [parent, child]) if (!nodes.has(end.id)) nodes.set(end.id, end);
    edges.set(edgeKey(row), {
      from: parent.id,
      to: child.id,
      relation: row.relation,
      role: row.role,
      weight: row.weight,
    });
  }
  const counts = version.lineageCounts;
  return {
    here: version.id,
    nodes,
    edges: [...edges.values()],
    hidden: counts && Math.max(0, counts.ancestors + counts.descendants + 1 - nodes.size),
  };
}

const edgeKey = (row: LineageEdgeRow) => `${row.parent?.id} ${row.child?.id} ${row.relation} ${row.role}`;

/** What stands on an edge: how the right end came from the left one. */
export function edgeLabel({ relation, role, weight }: Omit<GraphEdge, keyof LayoutEdge>): string {
  if (relation === "TRAINED_ON") return "trained on";
  if (role === "BASE") return "base";
  return weight === null ? "adapter" : `adapter × ${Number(weight.toPrecision(4))}`;
}

/** The same in words, for a list in which the child stands below the parent. */
export function cameFrom(edge: Omit<GraphEdge, keyof LayoutEdge>): string {
  return edge.relation === "TRAINED_ON" ? "trained on the above" : `merged, the above as ${edgeLabel(edge)}`;
}

export interface TreeItem {
  readonly id: string;
  /** How it came from the item above; null at a root. */
  readonly edge: GraphEdge | null;
  /** True where the same version was listed before, with everything below it. */
  readonly again: boolean;
  readonly children: readonly TreeItem[];
}

/**
 * The graph as nested lists, from what has no parents down. A version with two parents appears under both, but what
 * comes after it is listed once.
 */
export function buildTree({ nodes, edges }: Pick<Graph, "nodes" | "edges">): TreeItem[] {
  const below = Map.groupBy(edges, (edge) => edge.from);
  const hasParent = new Set(edges.map((edge) => edge.to));
  const listed = new Set<string>();
  const item = (id: string, edge: GraphEdge | null): TreeItem => {
    if (listed.has(id)) return { id, edge, again: true, children: [] };
    listed.add(id);
    return { id, edge, again: false, children: (below.get(id) ?? []).map((next) => item(next.to, next)) };
  };
  return [...nodes.keys()].filter((id) => !hasParent.has(id)).map((id) => item(id, null));
}

/** `demo/base@7` → `demo` and `base@7`. */
export function splitRef(ref: string): readonly [owner: string, name: string] {
  const cut = ref.indexOf("/");
  return [ref.slice(0, Math.max(0, cut)), ref.slice(cut + 1)];
}

/** A reference that fits a node: the end is what tells versions of one model apart, so the middle goes. */
export function shorten(text: string, max: number): string {
  if (text.length <= max) return text;
  const tail = Math.ceil((max - 1) * 0.6);
  return `${text.slice(0, max - 1 - tail)}…${text.slice(-tail)}`;
}
