import { type MouseEvent, useEffect, useMemo, useRef, useState } from "react";
import type { LineageVersion } from "../documents.ts";
import { formatRoute, navigate, versionRoute } from "../router.ts";
import { formatCount, sentence, words } from "../ui/format.ts";
import { isPlainClick } from "../ui/link.tsx";
import { Scroll } from "../ui/scroll.tsx";
import { edgeLabel, type Graph, type GraphEdge, shorten, splitRef } from "./graph.ts";
import { curve, layoutLineage, type PlacedEdge, type PlacedNode, SIZE } from "./layout.ts";
import { shapePath } from "./shapes.ts";

const LABEL = { charWidth: 6.4, height: 17 };

/** The lineage drawn from left to right. Every node is a link; hovering or focusing one marks its edges. */
export function GraphView({ graph }: { readonly graph: Graph }) {
  const [near, setNear] = useState<string | null>(null);
  const frame = useRef<HTMLElement>(null);
  const layout = useMemo(() => layoutLineage([...graph.nodes.keys()], graph.edges), [graph]);
  const here = layout.nodes.find((node) => node.id === graph.here);
  const [x, y] = [here?.x ?? 0, here?.y ?? 0];
  useEffect(() => {
    // A graph wider than its frame opens where the reader is.
    const box = frame.current;
    box?.scrollTo(x + SIZE.nodeWidth / 2 - box.clientWidth / 2, y - box.clientHeight / 2);
  }, [x, y]);
  return (
    <Scroll
      className="graph"
      label="Lineage graph: from left, what versions were made from, to right, what was made"
      ref={frame}
    >
      {/* biome-ignore lint/a11y/noSvgWithoutTitle: a title here would be a tooltip over everything; the frame is labelled */}
      <svg width={layout.width} height={layout.height} viewBox={`0 0 ${layout.width} ${layout.height}`}>
        <defs>
          {["base", "adapter", "trained"].map((tone) => (
            <marker
              key={tone}
              id={`arrow-${tone}`}
              viewBox="0 0 8 8"
              refX="7.5"
              refY="4"
              markerWidth="8"
              markerHeight="8"
              markerUnits="userSpaceOnUse"
              orient="auto"
            >
              <path className={`arrow ${tone}`} d="M0 0L8 4L0 8Z" />
            </marker>
          ))}
        </defs>
        {layout.edges.map((placed) => (
          <Edge key={`${placed.edge.from} ${placed.edge.to}`} placed={placed} near={near} />
        ))}
        {layout.edges.map((placed) => (
          <EdgeLabel key={`${placed.edge.from} ${placed.edge.to}`} placed={placed} />
        ))}
        {layout.nodes.map((placed) => (
          <Node
            key={placed.id}
            placed={placed}
            version={graph.nodes.get(placed.id)!}
            here={placed.id === graph.here}
            onNear={setNear}
          />
        ))}
      </svg>
    </Scroll>
  );
}

const tone = (edge: GraphEdge) => (edge.relation === "TRAINED_ON" ? "trained" : edge.role.toLowerCase());

function Edge({ placed, near }: { readonly placed: PlacedEdge<GraphEdge>; readonly near: string | null }) {
  const { edge, points } = placed;
  const marked = near === edge.from || near === edge.to;
  return (
    <path
      className={`edge ${tone(edge)}${marked ? " near" : ""}`}
      d={curve(points)}
      markerEnd={`url(#arrow-${tone(edge)})`}
    />
  );
}

function EdgeLabel({ placed }: { readonly placed: PlacedEdge<GraphEdge> }) {
  const text = edgeLabel(placed.edge);
  const { x, y } = placed.label;
  const width = text.length * LABEL.charWidth + 6;
  return (
    // biome-ignore lint/a11y/noAriaHiddenOnFocusable: a <g> takes no focus; the list below says the same in order
    <g className="edge-label" aria-hidden="true">
      <rect x={x - width / 2} y={y - LABEL.height / 2} width={width} height={LABEL.height} rx="4" />
      <text x={x} y={y}>
        {text}
      </text>
    </g>
  );
}

interface NodeProps {
  readonly placed: PlacedNode;
  readonly version: LineageVersion;
  readonly here: boolean;
  readonly onNear: (id: string | null) => void;
}

function Node({ placed, version, here, onNear }: NodeProps) {
  const { x, y } = placed;
  const box = { x, y, width: SIZE.nodeWidth, height: SIZE.nodeHeight };
  const to = versionRoute(version.ref, "lineage");
  const [owner, name] = splitRef(version.ref);
  const kind = sentence(words(version.kind));
  const what = `${formatCount(version.parameters)} parameters, ${version.dtype}`;
  const go = (event: MouseEvent) => {
    if (!isPlainClick(event)) return;
    event.preventDefault();
    navigate(to);
  };
  const middle = x + SIZE.nodeWidth / 2;
  return (
    <a
      href={formatRoute(to)}
      className={`node ${version.kind.toLowerCase()}${here ? " here" : ""}`}
      aria-label={`${version.ref}: ${kind}, ${what}`}
      aria-current={here ? "page" : undefined}
      onClick={go}
      onMouseEnter={() => onNear(placed.id)}
      onMouseLeave={() => onNear(null)}
      onFocus={() => onNear(placed.id)}
      onBlur={() => onNear(null)}
    >
      <title>{`${version.ref}\n${what}`}</title>
      <rect className="ring" x={x - 5} y={y - 5} width={box.width + 10} height={box.height + 10} rx="8" />
      <path className="shape" d={shapePath(version.kind, box)} />
      <text className="name" x={middle} y={y + 27} textAnchor="middle">
        {shorten(name, 25)}
      </text>
      <text className="what" x={middle} y={y + 44} textAnchor="middle">
        {shorten(`${owner} · ${kind}`, 30)}
      </text>
    </a>
  );
}
