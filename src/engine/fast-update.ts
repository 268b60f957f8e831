import { isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { leafKey } from "../core/expr.ts";
import { NUMERICS } from "../core/numerics-versions.ts";
import type { Node } from "./compile-graph.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import type { TaskGraph } from "./program-leaves.ts";

/** Prepared factors may have so many elements; larger ones go through a tile program. */
const MAX_FACTOR = 2 ** 26;
/** What one row of B may take in memory; real ranks end at a few thousand. */
const MAX_RANK = 131_072;

/** A factor: read as it is stored, or prepared. */
export interface Factor {
  readonly node: Node;
  readonly stored: { readonly leaf: ProgramLeaf; readonly dtype: MergeableDtype } | null;
}

/** W (m×n) + round?(scale · B (m×r) · A (r×n)), W being the task's input in its own type, seen as a matrix. */
export interface FastUpdate {
  readonly rows: number;
  readonly cols: number;
  readonly rank: number;
  readonly a: Factor;
  readonly b: Factor;
  readonly scale: number;
  readonly roundFirst: boolean;
}

/** The task as the kernel that merges in place takes it, or null where it is something else. */
export function fastUpdate(task: TensorTask, { root, stored }: TaskGraph): FastUpdate | null {
  const { program, input, dtype } = task;
  if (!program || !input || program.numerics !== NUMERICS || dtype !== input.dtype) return null;
  if (!isMergeable(dtype)) return null;
  const change = changeOf(root, input);
  if (!change) return null;
  const { product, scale, roundFirst } = change;
  const [left, right] = product.args as [Node, Node];
  const [rows, cols] = product.shape as [number, number];
  const rank = right.shape[0]!;
  const small = [left, right].every((node) => !node.readsBase && node.count <= MAX_FACTOR);
  if (!small || rank === 0 || rank > MAX_RANK || root.count === 0) return null;
  const factor = (node: Node): Factor => {
    const leaf = node.expr.op === "source" ? stored.get(leafKey(node.expr)) : undefined;
    return { node, stored: leaf && isMergeable(leaf.dtype) ? { leaf, dtype: leaf.dtype } : null };
  };
  return { rows, cols, rank, a: factor(right), b: factor(left), scale: Math.fround(scale), roundFirst };
}

/** The product in `W + round?(scale · product)`, whatever is only reshaped in between. */
function changeOf(root: Node, input: ProgramLeaf) {
  if (root.expr.op !== "add") return null;
  const isInput = (node: Node) => {
    const { expr, count } = plain(node);
    return expr.op === "base" && leafKey(expr) === input.key && count === root.count;
  };
  const added = root.args.filter((node) => !isInput(node));
  if (added.length !== 1) return null;
  let node = plain(added[0]!);
  const roundFirst = node.expr.op === "round";
  if (roundFirst) node = plain(node.args[0]!);
  const scale = node.expr.op === "scale" ? node.expr.by : 1;
  if (node.expr.op === "scale") node = plain(node.args[0]!);
  const fused = node.expr.op === "matmul" && node.expr.order !== "unfused";
  return fused && node.count === root.count ? { product: node, scale, roundFirst } : null;
}

function plain(node: Node): Node {
  return node.expr.op === "reshape" ? plain(node.args[0]!) : node;
}
