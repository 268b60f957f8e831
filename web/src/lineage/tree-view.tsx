import { versionRoute } from "../router.ts";
import { KindBadge } from "../ui/badges.tsx";
import { Link } from "../ui/link.tsx";
import { buildTree, cameFrom, type Graph, type TreeItem } from "./graph.ts";

/** The lineage as nested lists, for screen readers and for everyone who would rather read. */
export function TreeView({ graph }: { readonly graph: Graph }) {
  return (
    <ul className="tree card">
      {buildTree(graph).map((item) => (
        <Item key={item.id} item={item} graph={graph} />
      ))}
    </ul>
  );
}

function Item({ item, graph }: { readonly item: TreeItem; readonly graph: Graph }) {
  const { ref, kind } = graph.nodes.get(item.id)!;
  return (
    <li>
      <div className="row">
        <KindBadge kind={kind} />
        {item.id === graph.here ? (
          <strong>{ref}</strong>
        ) : (
          <Link to={versionRoute(ref, "lineage")}>{ref}</Link>
        )}
        <span className="muted small-text">
          {[
            item.edge && cameFrom(item.edge),
            item.id === graph.here && "this version",
            item.again && "also listed above",
          ]
            .filter(Boolean)
            .join("; ")}
        </span>
      </div>
      {item.children.length > 0 && (
        <ul>
          {item.children.map((child) => (
            <Item key={`${child.id} ${child.edge?.role}`} item={child} graph={graph} />
          ))}
        </ul>
      )}
    </li>
  );
}
