import { lineageDocument } from "../documents.ts";
import { KINDS } from "../router.ts";
import { KindBadge } from "../ui/badges.tsx";
import { formatWhole } from "../ui/format.ts";
import { Failure, Notice } from "../ui/notice.tsx";
import { Loading } from "../ui/page.tsx";
import { useQuery } from "../ui/query.ts";
import { buildGraph } from "./graph.ts";
import { GraphView } from "./graph-view.tsx";
import { TreeView } from "./tree-view.tsx";

/** The lineage of a version: drawn, and as a list that says the same. */
export function LineagePanel({ versionRef }: { readonly versionRef: string }) {
  const { data, error, loading, reload } = useQuery(lineageDocument, { ref: versionRef });
  if (error) return <Failure error={error} retry={reload} />;
  if (!data?.version) return loading ? <Loading what="the lineage" /> : <p>No lineage is recorded.</p>;
  const graph = buildGraph(data.version);
  const kinds = new Set([...graph.nodes.values()].map((node) => node.kind));
  if (graph.edges.length === 0) {
    return (
      <section className="card empty">
        <h2>No relatives yet</h2>
        <p>
          Nothing is recorded that this was made from, and nothing was made from it. Adapters imported with
          their base, and merges, will appear here.
        </p>
      </section>
    );
  }
  return (
    <div className="stack">
      {graph.hidden ? (
        <Notice tone="info" title={`${formatWhole(graph.hidden)} more relatives are not drawn`}>
          <p>The nearest are shown. The API pages through all of them: ancestors, descendants.</p>
        </Notice>
      ) : null}
      <div className="legend">
        {KINDS.filter((kind) => kinds.has(kind)).map((kind) => (
          <KindBadge key={kind} kind={kind} />
        ))}
      </div>
      <GraphView graph={graph} />
      <h2>The same as a list</h2>
      <TreeView graph={graph} />
    </div>
  );
}
