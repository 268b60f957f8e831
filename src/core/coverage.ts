import type { AdapterInput, ParsedAdapter } from "./adapters/index.ts";
import { leaves } from "./expr.ts";

/** What becomes of an adapter's tensors: each should have exactly one part in the merge. */
export interface Coverage {
  /** In the adapter's file. */
  readonly tensors: number;
  readonly consumed: number;
  /** Without a part on purpose, such as buffers that only training needs. */
  readonly ignored: readonly string[];
  /** Nothing in the merge uses them. */
  readonly orphaned: readonly string[];
  /** Modules that the config targets and the file lacks, or has only half of. */
  readonly missing: readonly string[];
  /** Used for more than one output tensor: a shared projection, or a tied pair. */
  readonly duplicated: readonly string[];
}

export function coverageOf(
  { tensors, source }: Pick<AdapterInput, "tensors" | "source">,
  parsed: ParsedAdapter,
): Coverage {
  const uses = new Map<string, number>();
  for (const { expr } of parsed.targets) {
    for (const leaf of leaves(expr)) {
      if (leaf.op === "source" && leaf.source === source)
        uses.set(leaf.tensor, (uses.get(leaf.tensor) ?? 0) + 1);
    }
  }
  const named = (code: string) =>
    parsed.problems.flatMap((p) => (p.code === code && p.subject !== undefined ? [p.subject] : []));
  return {
    tensors: tensors.length,
    consumed: uses.size,
    ignored: [...(parsed.ignored ?? [])],
    orphaned: named("ORPHAN_TENSOR"),
    missing: named("MISSING_TENSOR"),
    duplicated: [...uses].flatMap(([name, count]) => (count > 1 ? [name] : [])),
  };
}
