import { elementCount } from "../core/dtype.ts";
import { children, type Expr, type Leaf, leafKey } from "../core/expr.ts";
import { type ShapeLookup, shapeOf } from "../core/shapes.ts";

/**
 * An expression's node with its shape: equal nodes are one object, and transpositions are pushed down to where they
 * cost least. Values are the same, bit for bit.
 */
export interface Node {
  /** Of the expression at this node alone: what lies below it is in `args`. */
  readonly expr: Expr;
  readonly args: readonly Node[];
  readonly shape: readonly number[];
  readonly count: number;
  readonly readsBase: boolean;
}

const NOTHING: Expr = { op: "base", tensor: "" };

/** Builds nodes, each different one once. */
export class Graph {
  readonly #shapes: ShapeLookup;
  readonly #known = new Map<string, Node>();
  readonly #ids = new Map<Node, number>();

  /** @param shapes of the leaves */
  constructor(shapes: ShapeLookup) {
    this.#shapes = shapes;
  }

  /** The node of an expression. */
  of(expr: Expr): Node {
    const seen = new Map<Expr, Node>();
    const visit = (part: Expr): Node => {
      const before = seen.get(part);
      if (before) return before;
      const node = this.make(part, children(part).map(visit));
      seen.set(part, node);
      return node;
    };
    return visit(expr);
  }

  /** A node from those below it, simplified. */
  make(expr: Expr, args: readonly Node[]): Node {
    return this.#simpler(expr, args) ?? this.#intern(expr, args);
  }

  reshape(of: Node, shape: readonly number[]): Node {
    return this.make({ op: "reshape", of: NOTHING, shape }, [of]);
  }

  #permute(of: Node, axes: readonly number[]): Node {
    return this.make({ op: "permute", of: NOTHING, axes }, [of]);
  }

  #intern(expr: Expr, args: readonly Node[]): Node {
    const key = `${parameters(expr)} ${args.map((arg) => this.#ids.get(arg))}`;
    const known = this.#known.get(key);
    if (known) return known;
    const shape = ownShape(expr, args, this.#shapes);
    const readsBase = expr.op === "base" || args.some((arg) => arg.readsBase);
    const node: Node = { expr, args, shape, count: elementCount(shape), readsBase };
    this.#known.set(key, node);
    this.#ids.set(node, this.#ids.size);
    return node;
  }

  #simpler(expr: Expr, args: readonly Node[]): Node | null {
    const [of] = args as [Node];
    switch (expr.op) {
      case "reshape":
        if (sameShape(of.shape, expr.shape)) return of;
        return of.expr.op === "reshape" ? this.reshape(of.args[0]!, expr.shape) : null;
      case "slice": {
        const all = expr.start === 0 && expr.step === 1 && expr.stop === of.shape[expr.axis];
        return all ? of : null;
      }
      case "repeat":
        return expr.size === of.shape[expr.axis] ? of : null;
      case "concat":
        return args.length === 1 ? of : null;
      case "norm": {
        // The length of a column is that of a row of the transposed matrix: the same numbers in the same order.
        const inner = of.expr;
        if (inner.op !== "permute" || inner.axes.length !== 2 || inner.axes[0] !== 1) return null;
        const axis = expr.axis === 0 ? 1 : 0;
        const length = this.make({ ...expr, axis }, of.args);
        return this.reshape(length, axis === 1 ? [1, length.count] : [length.count, 1]);
      }
      case "permute":
        return this.#simplerPermute(of, expr.axes);
      default:
        return null;
    }
  }

  #simplerPermute(of: Node, axes: readonly number[]): Node | null {
    const moved = axes.filter((axis) => of.shape[axis] !== 1);
    if (moved.every((axis, i) => i === 0 || axis > moved[i - 1]!)) {
      return this.reshape(
        of,
        axes.map((axis) => of.shape[axis]!),
      );
    }
    const { expr, args } = of;
    const through = (arg: Node) => this.#permute(arg, axes);
    switch (expr.op) {
      case "permute":
        return this.#permute(
          args[0]!,
          axes.map((axis) => expr.axes[axis]!),
        );
      case "scale":
      case "over":
      case "round":
      case "relu":
        return this.make(expr, args.map(through));
      case "add":
      case "sub":
      case "mul":
      case "div":
        // A missing leading dimension counts as 1; with it, both operands have all axes.
        return this.make(
          expr,
          args.map((arg) => through(this.reshape(arg, padded(arg.shape, of.shape.length)))),
        );
      case "matmul":
        // (L·R)ᵀ is Rᵀ·Lᵀ: the same products in the same order.
        return this.make(expr, [through(args[1]!), through(args[0]!)]);
      case "kron":
        return this.make(expr, args.map(through));
      case "concat":
        return this.make({ ...expr, axis: axes.indexOf(expr.axis) }, args.map(through));
      case "slice":
      case "repeat":
        return this.make({ ...expr, axis: axes.indexOf(expr.axis) }, args.map(through));
      default:
        return null;
    }
  }
}

/** What tells a node apart from others with the same nodes below it. */
function parameters(expr: Expr): string {
  if (expr.op === "base" || expr.op === "source") return leafKey(expr);
  const own = Object.entries(expr).filter(([key]) => !BELOW.has(key));
  // As texts, because JSON knows neither -0 nor infinities.
  return JSON.stringify(own, (_, value) => (typeof value === "number" ? numeral(value) : value));
}

const numeral = (value: number) => (Object.is(value, -0) ? "-0" : String(value));

const BELOW = new Set(["of", "left", "right", "parts", "to", "args"]);

/** The shape from the shapes of the nodes below, which stand in as leaves. */
function ownShape(expr: Expr, args: readonly Node[], shapes: ShapeLookup): readonly number[] {
  if (expr.op === "base" || expr.op === "source") return shapes(expr);
  const stand = args.map((_, i): Leaf => ({ op: "source", source: i, tensor: "" }));
  return shapeOf(withChildren(expr, stand), (leaf) => args[leaf.op === "source" ? leaf.source : 0]!.shape);
}

/** The expression with other ones below it, in the order of `children`. */
export function withChildren(expr: Expr, below: readonly Expr[]): Expr {
  const [first, second] = below as [Expr, Expr];
  switch (expr.op) {
    case "base":
    case "source":
      return expr;
    case "matmul":
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "kron":
      return { ...expr, left: first, right: second };
    case "concat":
      return { ...expr, parts: below };
    case "set-rows":
      return { ...expr, of: first, to: second };
    case "call":
      return { ...expr, args: below };
    default:
      return { ...expr, of: first };
  }
}

export function sameShape(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((dim, i) => dim === other[i]);
}

/** A shape with as many leading 1s as it takes. */
export function padded(shape: readonly number[], rank: number): number[] {
  return [...new Array<number>(Math.max(0, rank - shape.length)).fill(1), ...shape];
}
