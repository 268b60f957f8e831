import {
  asBranches,
  asStored,
  type Branches,
  type BranchTerm,
  type UnmergedForm,
  unmergedForm,
  withTerms,
} from "./branches.ts";
import type { Finding } from "./errors.ts";
import { add, type Expr, type Leaf, leafKey, scale, sub } from "./expr.ts";
import type { ShapeLookup } from "./shapes.ts";

/** What one source makes of a tensor. */
export interface Change {
  /** Without rounding. */
  readonly expr: Expr;
  readonly shape: readonly number[];
  readonly weight: number;
  /** A module or a bias that was trained as a whole: it takes the place of what stood there. */
  readonly replaces: boolean;
  /** What to call the source in messages. */
  readonly label: string;
}

export interface Changed {
  readonly tensor: string;
  /** W and its shape; null for a tensor that the base has nothing for. */
  readonly start: { readonly expr: Expr; readonly shape: readonly number[] } | null;
  readonly changes: readonly Change[];
}

/**
 * W + Σ weightᵢ·(exprᵢ − W). Where every source only adds terms to the stored matrix they lie side by side, each times
 * its weight; a factor on the whole, or no branch form, makes one expression of it all.
 */
export function weightedForm({ start, changes }: Changed, shapes: ShapeLookup): UnmergedForm {
  const [first, ...more] = changes;
  if (!first) return unmergedForm(start!.expr, shapes);
  if (more.length === 0 && first.weight === 1) return unmergedForm(first.expr, shapes);
  const from = start!.expr;
  const stored = asStored(from);
  const added = changes.map(({ expr, weight }) =>
    weighted(addedTo(stored, asBranches(expr, shapes)), weight),
  );
  if (stored && added.every((terms) => terms !== null)) {
    return { kind: "branches", base: stored, terms: added.flat(), factor: null };
  }
  const expr = changes.reduce((sum: Expr, { expr: own, weight }, i) => {
    const terms = added[i];
    return terms ? withTerms(sum, terms) : add(sum, scale(weight, sub(own, from)));
  }, from);
  return { kind: "computed", expr };
}

const weighted = (terms: readonly BranchTerm[] | null, weight: number) =>
  terms?.map((term) => ({ ...term, scale: term.scale * weight })) ?? null;

/** The terms that are all a source does to W; null where it starts from another matrix or multiplies the whole. */
function addedTo(start: Leaf | null, branches: Branches | null): readonly BranchTerm[] | null {
  if (!start || !branches || branches.factor) return null;
  return leafKey(start) === leafKey(branches.base) ? branches.terms : null;
}

/** Why the changes have no weighted sum, if they have none. */
export function conflictOf({ tensor, start, changes }: Changed): Finding | null {
  const [first, ...more] = changes;
  const sizes = start?.shape.join();
  const other = changes.find(({ shape }) => shape.join() !== sizes);
  if (!first || more.length === 0) {
    if (!first || first.weight === 1 || !other) return null;
    const instead = start ? `, where the base has [${start.shape}]` : ", which the base lacks";
    return {
      code: "WEIGHT_OF_REPLACEMENT",
      subject: tensor,
      message: `${first.label} brings "${tensor}" [${first.shape}] as a whole${instead}: there is nothing to take ${first.weight} of the way to. Give it the weight 1, or leave the module out.`,
    };
  }
  const [second] = more as [Change];
  if (other) return ambiguous(tensor, changes, `and ${other.label} gives it the shape [${other.shape}]`);
  const whole = changes.find(({ replaces }) => replaces);
  if (whole) return ambiguous(tensor, changes, `and ${whole.label} replaces it as a whole`);
  const row = sharedRow(changes);
  return row === null
    ? null
    : ambiguous(tensor, [first, second], `and more than one of them replaces its row ${row}`);
}

function ambiguous(tensor: string, changes: readonly Change[], how: string): Finding {
  return {
    code: "AMBIGUOUS_SOURCES",
    subject: tensor,
    message: `${changes.map(({ label }) => label).join(" and ")} change "${tensor}", ${how}: what they are together cannot be told. Evaluate them one at a time, or leave the module out of one of them.`,
  };
}

/** A row that more than one source replaces. */
function sharedRow(changes: readonly Change[]): number | null {
  const taken = new Set<number>();
  for (const { expr } of changes) {
    if (expr.op !== "set-rows") continue;
    for (const row of expr.rows) {
      if (taken.has(row)) return row;
      taken.add(row);
    }
  }
  return null;
}
