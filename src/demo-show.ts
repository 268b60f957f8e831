import type { JobFacts, LineageEdge, LineageVersion } from "./client/documents.ts";

/** Where the demo talks; plain lines unless it is a terminal. */
const out = process.stdout;
// `npm run demo | head` closes the pipe early: the demo goes on, and stops its server at the end.
out.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});
let drawn = false;
let lastLine = "";

export function say(text = ""): void {
  if (drawn) out.write("\r\x1b[2K");
  drawn = false;
  lastLine = "";
  out.write(`${text}\n`);
}

/** Shows how far a job is: redrawn on a terminal, elsewhere a line for each stage. */
export function showProgress({ progress }: JobFacts): void {
  // Between two stages there is nothing to be seen.
  if (!progress?.stage) return;
  const { stage, fraction, done, total } = progress;
  if (!out.isTTY) {
    const line = `      ${stage} …`;
    if (line !== lastLine) out.write(`${line}\n`);
    lastLine = line;
    return;
  }
  const share = fraction ?? 0;
  const bar = "█".repeat(Math.round(share * 24)).padEnd(24, "░");
  const text = `      ${stage.padEnd(7)} ${bar} ${size(done)} of ${size(total)}`;
  out.write(`\r\x1b[2K${text.slice(0, (out.columns ?? 80) - 1)}`);
  drawn = true;
}

/** Bytes, as decimal text, for people. */
export function size(bytes: string): string {
  const count = Number(bytes);
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(count < 1e7 ? 2 : 1)} MB`;
}

export function since(started: number): string {
  return `${((performance.now() - started) / 1000).toFixed(2)} s`;
}

/**
 * The descendants of a version as an indented tree. A merged version stands below its adapter, which stands below the
 * base it was trained on, so that every version appears once; what else went into it stands on its line.
 */
export function lineageTree(root: LineageVersion, edges: readonly LineageEdge[]): string[] {
  const parents = new Map<string, LineageEdge[]>();
  for (const edge of edges) {
    if (!edge.parent || !edge.child) continue;
    // The API may reach one edge on several paths.
    const known = parents.get(edge.child.id) ?? [];
    if (known.some((other) => other.parent!.id === edge.parent!.id && other.role === edge.role)) continue;
    parents.set(edge.child.id, [...known, edge]);
  }
  const below = new Map<string, LineageEdge[]>();
  for (const into of parents.values()) {
    const place = into.find((edge) => edge.role === "ADAPTER") ?? into[0]!;
    below.set(place.parent!.id, [...(below.get(place.parent!.id) ?? []), place]);
  }
  const draw = (version: LineageVersion, indent: string): string[] => {
    const children = (below.get(version.id) ?? []).sort((a, b) => (a.child!.ref < b.child!.ref ? -1 : 1));
    return children.flatMap(({ child }, i) => {
      const last = i === children.length - 1;
      const how = parents.get(child!.id)!.map(origin).join(" + ");
      return [
        `${indent}${last ? "└─" : "├─"} ${child!.ref}  ${child!.kind.toLowerCase()}, ${how}`,
        ...draw(child!, `${indent}${last ? "   " : "│  "}`),
      ];
    });
  };
  return [`${root.ref}  ${root.kind.toLowerCase()}`, ...draw(root, "")];
}

function origin({ relation, role, weight, parent }: LineageEdge): string {
  if (relation === "TRAINED_ON") return `trained on ${parent!.ref}`;
  return role === "ADAPTER" && weight !== null && weight !== 1 ? `${weight} × ${parent!.ref}` : parent!.ref;
}
