import { readFile } from "node:fs/promises";
import { widen } from "../../src/core/dtype.ts";
import type { LowRankTerm, WeightForm } from "../../src/engine/forward/side.ts";
import { compileKernels, Kernels } from "../../src/engine/kernels.ts";
import { Materialiser } from "../../src/engine/materialise.ts";
import type { StoredTensor } from "../../src/engine/pool.ts";

export type Forms = Awaited<ReturnType<typeof openForms>>;

/** Computes the forms of a side as a forward pass would, by the kernels, and puts their parts together by plain loops. */
export async function openForms() {
  const materialiser = new Materialiser(new Kernels(await compileKernels()));

  async function value(form: WeightForm): Promise<Float64Array> {
    if (form.kind === "computed") return widen(form.task.dtype, materialiser.value(form.task));
    const values = widen(form.tensor.dtype, await storedBytes(form.tensor));
    if (form.kind === "stored") return values;
    const [rows, columns] = form.tensor.shape as [number, number];
    if (form.kind === "rows") {
      const others = materialiser.floats(form.values);
      form.rows.forEach((row, i) => {
        values.set(others.subarray(i * columns, (i + 1) * columns), row * columns);
      });
      return values;
    }
    for (const term of form.terms) addProduct(values, columns, term);
    if (form.factor) {
      const lines = materialiser.floats(form.factor.task);
      const byRow = form.factor.along === "rows";
      if (lines.length !== (byRow ? rows : columns)) throw new Error(`a factor of ${lines.length}`);
      for (let at = 0; at < values.length; at++)
        values[at]! *= lines[byRow ? Math.floor(at / columns) : at % columns]!;
    }
    return values;
  }

  function addProduct(values: Float64Array, columns: number, { left, right, scale }: LowRankTerm): void {
    const [l, r] = [materialiser.floats(left), materialiser.floats(right)];
    const k = left.shape[1]!;
    const fits = right.shape[0] === k && right.shape[1] === columns;
    if (!fits || left.shape[0]! * columns !== values.length)
      throw new Error(`[${left.shape}] and [${right.shape}] are no factors of ${values.length} values`);
    for (let at = 0; at < values.length; at++) {
      const [i, j] = [Math.floor(at / columns), at % columns];
      let sum = 0;
      for (let n = 0; n < k; n++) sum += l[i * k + n]! * r[n * columns + j]!;
      values[at]! += scale * sum;
    }
  }

  return {
    value,
    /** Of a form without branches. */
    async bytes(form: WeightForm): Promise<Uint8Array> {
      if (form.kind === "branches" || form.kind === "rows") throw new Error(`${form.kind} have no bytes`);
      return form.kind === "stored" ? await storedBytes(form.tensor) : materialiser.value(form.task);
    },
    close: () => materialiser.close(),
  };
}

async function storedBytes({ path, offset, bytes }: StoredTensor): Promise<Buffer> {
  return (await readFile(path)).subarray(offset, offset + bytes);
}
