import { branchesExpr, type UnmergedForm } from "../../core/branches.ts";
import type { Dtype } from "../../core/dtype.ts";
import { type Expr, type Leaf, leaves, setRows } from "../../core/expr.ts";
import { isFloat8 } from "../../core/float8.ts";
import { NUMERICS, type NumericsVersion } from "../../core/numerics-versions.ts";
import { type ShapeLookup, shapeOf } from "../../core/shapes.ts";
import type { Located } from "../events.ts";
import type { WeightForm } from "../forward/side.ts";
import type { ProgramLeaf, StoredTensor, TensorTask } from "../pool.ts";
import { leafFinder } from "../tasks.ts";

/** One tensor of a side, before it is known where its values lie. */
export interface FormRequest {
  readonly tensor: string;
  readonly shape: readonly number[];
  /** Base tensor that it starts from. */
  readonly start: string | null;
  readonly form: UnmergedForm;
}

export interface TaskRequest {
  /** Different for each task of a side. */
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly start: string | null;
  readonly expr: Expr;
  readonly numerics: NumericsVersion;
}

/** Makes the forms of a side's tensors from the files of a base and its adapters. */
export class SideForms {
  readonly #find: (leaf: Leaf) => ProgramLeaf;

  constructor(inputs: { readonly base: Located; readonly sources: readonly Located[] }) {
    this.#find = leafFinder(inputs);
  }

  /** Of leaves. */
  readonly shapes: ShapeLookup = (leaf) => this.#find(leaf).shape;

  /**
   * How an un-merged tensor comes about; everything that is computed is float32. What a forward pass does not read as it
   * is stored (8-bit floats without scales, float64) is computed too.
   */
  unmerged(request: FormRequest): WeightForm {
    const { form } = request;
    if (form.kind === "computed") return this.#computed(request, form.expr);
    const leaf = form.kind === "stored" ? form.leaf : form.base;
    const { dtype } = this.#find(leaf);
    if (isFloat8(dtype) || dtype === "F64") {
      return this.#computed(request, exprOf(form, leaf));
    }
    if (form.kind === "stored") return { kind: "stored", tensor: this.stored(leaf, request.shape) };
    if (form.kind === "rows") {
      const values = this.#float32(`${request.tensor} rows`, form.to);
      return { kind: "rows", tensor: this.stored(leaf, request.shape), rows: form.rows, values };
    }
    const factor = form.factor && {
      along: form.factor.along,
      task: this.#float32(`${request.tensor} factor`, form.factor.expr),
    };
    const terms = form.terms.map(({ left, right, scale }, i) => ({
      left: this.#float32(`${request.tensor} left ${i}`, left),
      right: this.#float32(`${request.tensor} right ${i}`, right),
      scale,
    }));
    return { kind: "branches", tensor: this.stored(leaf, request.shape), terms, factor };
  }

  /** Where a leaf's values lie; `shape` has as many elements. */
  stored(leaf: Leaf, shape: readonly number[]): StoredTensor {
    const { path, offset, bytes, dtype } = this.#find(leaf);
    return { path, offset, bytes, dtype, shape };
  }

  /** A task without output. Its inputs are not digested each time it runs: whoever evaluates has read them once. */
  task({ name, dtype, shape, start, expr, numerics }: TaskRequest): TensorTask {
    const read = leaves(expr);
    const own = read.find((leaf) => leaf.op === "base" && leaf.tensor === start);
    const place = (leaf: Leaf): ProgramLeaf => {
      const { digest: _, ...found } = this.#find(leaf);
      return found;
    };
    return {
      name,
      dtype,
      shape,
      input: own ? place(own) : null,
      digests: "none",
      program: { expr, leaves: read.filter((leaf) => leaf !== own).map(place), numerics },
    };
  }

  #computed({ tensor, shape, start }: FormRequest, expr: Expr): WeightForm {
    const task = this.task({ name: tensor, dtype: "F32", shape, start, expr, numerics: NUMERICS });
    return { kind: "computed", task };
  }

  #float32(name: string, expr: Expr): TensorTask {
    const shape = shapeOf(expr, this.shapes);
    return this.task({ name, dtype: "F32", shape, start: null, expr, numerics: NUMERICS });
  }
}

function exprOf(form: Exclude<UnmergedForm, { kind: "computed" }>, leaf: Leaf): Expr {
  if (form.kind === "stored") return leaf;
  return form.kind === "rows" ? setRows(leaf, form.rows, form.to) : branchesExpr(form);
}

/** Shape and storage type of what a form gives. */
export function declared(form: WeightForm): { shape: readonly number[]; dtype: Dtype } {
  const { shape, dtype } = form.kind === "computed" ? form.task : form.tensor;
  return { shape, dtype };
}
