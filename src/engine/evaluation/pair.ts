import { readModelSpec } from "../../core/decoder/read.ts";
import { type Roles, requireSameModel, rolesOf } from "../../core/decoder/roles.ts";
import type { ModelSpec } from "../../core/decoder/spec.ts";
import type { Dtype } from "../../core/dtype.ts";
import type { JsonObject } from "../../core/json.ts";
import type { Side, WeightForm } from "../forward/side.ts";

/** One way to run a model, with its tensors by their own names. */
export interface NamedSide {
  readonly side: Side;
  /** config.json of what runs. */
  readonly config: JsonObject;
  readonly shapes: ReadonlyMap<string, { readonly shape: readonly number[]; readonly dtype: Dtype }>;
}

/** Sides of one model that run in lockstep, tensors by roles. */
export interface AlignedSides {
  readonly model: ModelSpec;
  readonly sides: readonly Side[];
}

/**
 * Brings sides together whose checkpoints may name their tensors otherwise.
 * @throws UNSUPPORTED_ARCHITECTURE, BAD_CHECKPOINT, MODEL_DIFFERS
 */
export function alignSides(named: readonly NamedSide[]): AlignedSides {
  const roles = named.map(({ config, shapes }) => rolesOf(readModelSpec(config, shapes)));
  const [first, ...others] = roles as [Roles, ...Roles[]];
  for (const other of others) requireSameModel(first, other);
  return { model: first.spec, sides: named.map(({ side }, i) => byRoles(side, roles[i]!)) };
}

function byRoles(side: Side, { names }: Roles): Side {
  const weights: Record<string, WeightForm> = {};
  for (const [role, name] of names) {
    const form = side.weights[name];
    if (!form) throw new Error(`${side.name} has no tensor ${name}`);
    weights[role] = form;
  }
  return { ...side, weights };
}

/** The side run another way that should not matter. It shares the weights that are read for it. */
export function floorOf(side: Side): Side {
  return { ...side, halves: true };
}

/** Largest width inside a layer, from which the memory of a token follows. */
export function widestOf({ model, sides }: AlignedSides): number {
  const [side] = sides;
  const rows = model.layers.flatMap(({ mlp }) => {
    if (mlp.form === "experts") return [];
    const up = mlp.form === "gated-fused" ? mlp.gateUp : mlp.up;
    const form = side!.weights[up.weight]!;
    return form.kind === "computed" ? form.task.shape : form.tensor.shape;
  });
  return Math.max(model.hidden, ...rows);
}

/** Bytes of all weights as float32. */
export function widenedBytes({ sides }: AlignedSides): number {
  const [side] = sides;
  return Object.values(side!.weights).reduce((sum, form) => {
    const { shape } = form.kind === "computed" ? form.task : form.tensor;
    return sum + 4 * shape.reduce((product, size) => product * size, 1);
  }, 0);
}
