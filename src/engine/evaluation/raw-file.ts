import type { ModelSpec } from "../../core/decoder/spec.ts";
import type { TokenInput } from "../../core/token-rows.ts";
import type { PlannedTensor } from "../../storage/tensor-file.ts";
import type { Side } from "../forward/side.ts";
import type { AlignedSides } from "./pair.ts";
import { declared } from "./side-forms.ts";

/** One kind of numbers that a model gives of a text. */
export interface RawOutput {
  /** "logits", "embed", "hidden.0", …, "final". */
  readonly name: string;
  /** "token": a row for each token; "text": one row for the whole text. */
  readonly per: "token" | "text";
  readonly width: number;
}

/** What a forward pass will tell of every text, and how wide it is. */
export function rawOutputs({ model, sides }: AlignedSides, hidden: boolean): RawOutput[] {
  const { head } = model;
  const logits: RawOutput = {
    name: "logits",
    per: head.form === "vocabulary" ? "token" : "text",
    width: widthOf(head.linear, sides[0]!),
  };
  if (!hidden) return [logits];
  const wide = (name: string): RawOutput => ({ name, per: "token", width: model.hidden });
  const final: RawOutput[] =
    head.form === "pooled"
      ? [{ name: "final", per: "text", width: widthOf(head.pooler, sides[0]!) }]
      : model.finalNorm
        ? [wide("final")]
        : [];
  return [wide("embed"), ...model.layers.map((_, i) => wide(`hidden.${i}`)), ...final, logits];
}

function widthOf({ weight, layout }: ModelSpec["layers"][number]["attention"]["out"], side: Side): number {
  const { shape } = declared(side.weights[weight]!);
  return shape[layout === "out-in" ? 0 : 1]!;
}

/** The tensors of the file, in the order of the inputs: the ids themselves, their mask, and what the model gives. */
export function plannedTensors(
  inputs: readonly TokenInput[],
  outputs: readonly RawOutput[],
): PlannedTensor[] {
  return inputs.flatMap(({ prefix, shape, rows }): PlannedTensor[] => [
    { name: `${prefix}input_ids`, dtype: "I64", shape },
    ...(isPadded(rows, shape) ? [{ name: `${prefix}attention_mask`, dtype: "I64", shape } as const] : []),
    ...outputs.map(
      ({ name, per, width }) =>
        ({
          name: `${prefix}${name}`,
          dtype: "F32",
          shape: [...(per === "token" ? shape : shape.slice(0, -1)), width],
        }) as const,
    ),
  ]);
}

/** Whether some position holds no token. */
export function isPadded(rows: TokenInput["rows"], shape: readonly number[]): boolean {
  return rows.some(({ ids }) => ids.length < shape.at(-1)!);
}
