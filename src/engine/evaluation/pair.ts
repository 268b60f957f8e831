import { readModelSpec } from "../../core/decoder/read.ts";
import { type Roles, requireSameModel, rolesOf } from "../../core/decoder/roles.ts";
import type { ModelSpec } from "../../core/decoder/spec.ts";
import { type Dtype, elementCount } from "../../core/dtype.ts";
import { AppError } from "../../core/errors.ts";
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

/**
 * The base without adapters, to run beside sides of its model; null where it cannot: it lacks a head, or has another
 * vocabulary.
 */
export function sideBeside({ model, sides }: AlignedSides, named: NamedSide): Side | null {
  let alone: AlignedSides;
  try {
    alone = alignSides([named]);
    requireSameModel({ spec: model, names: new Map() }, { spec: alone.model, names: new Map() });
  } catch (error) {
    if (error instanceof AppError) return null;
    throw error;
  }
  const [side] = alone.sides;
  const { weight } = model.head.linear;
  const rows = (of: Side) => shapeOf(of.weights[weight]!)[0];
  return rows(side!) === rows(sides[0]!) ? side! : null;
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
    return shapeOf(form);
  });
  return Math.max(model.hidden, ...rows);
}

/** Bytes of all weights as float32. */
export function widenedBytes({ sides }: AlignedSides): number {
  const [side] = sides;
  return Object.values(side!.weights).reduce((sum, form) => {
    return sum + 4 * elementCount(shapeOf(form));
  }, 0);
}

function shapeOf(form: WeightForm): readonly number[] {
  return form.kind === "computed" ? form.task.shape : form.tensor.shape;
}
