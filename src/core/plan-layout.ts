import type { AdapterTarget } from "./adapters/index.ts";
import type { LocatedTensor, WeightFile } from "./checkpoint.ts";
import { byteLength, type Dtype, isMergeable, type MergeableDtype } from "./dtype.ts";
import { type Expr, leaves } from "./expr.ts";
import { buildSafetensorsHeader } from "./safetensors.ts";

/** The base tensor that an output tensor starts from, and which is read for it once, tile by tile. */
export interface StepInput {
  readonly tensor: string;
  /** Weight file of the base. */
  readonly file: string;
  /** First byte in that file. */
  readonly begin: number;
  readonly bytes: number;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** What happens to one tensor of the output. */
export interface PlanStep {
  readonly tensor: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Bytes of the tensor. */
  readonly bytes: number;
  /** Weight file of the output. */
  readonly file: string;
  /** First byte in the output file. */
  readonly outputBegin: number;
  /** `null`: the base has nothing that it starts from. */
  readonly input: StepInput | null;
  /** `null`: the input, copied, or cast where the dtypes differ. */
  readonly expr: Expr | null;
}

export interface PlannedShard {
  readonly path: string;
  /** Bytes of the whole file. */
  readonly size: number;
  readonly dataStart: number;
  /** `null`: the base's header, byte for byte; else the header to write. */
  readonly header: Uint8Array | null;
}

export interface LayoutRequest {
  readonly weights: readonly WeightFile[];
  readonly base: ReadonlyMap<string, LocatedTensor>;
  readonly targets: readonly AdapterTarget[];
  /** Storage type of the output's float tensors; null: as they are. */
  readonly dtype: MergeableDtype | null;
  /** Output tensors and what they start from; null: the base's own. */
  readonly tensors: ReadonlyMap<string, string> | null;
  /** Base tensors that the output lacks. */
  readonly dropped: ReadonlySet<string>;
}

export interface Layout {
  readonly steps: readonly PlanStep[];
  readonly shards: readonly PlannedShard[];
  /** Base tensors that no step starts from: read for their digests only. */
  readonly unused: readonly LocatedTensor[];
  /** Names, shapes, dtypes and places are the base's own, so that its index file holds. */
  readonly sameIndex: boolean;
}

interface Place {
  readonly tensor: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly input: LocatedTensor | null;
  readonly expr: Expr | null;
}

/** Puts every output tensor into the shard of the tensor it starts from, in the base's order, new ones at the end. */
export function layOut(request: LayoutRequest): Layout {
  const { weights, base, targets, tensors } = request;
  const byTensor = new Map(targets.map((target) => [target.tensor, target]));
  const places = new Map(weights.map((file) => [file.path, [] as Place[]]));
  const outputs: ReadonlyMap<string, string> =
    tensors ?? new Map([...base.keys()].map((name) => [name, name]));
  for (const [tensor, from] of outputs) {
    if (request.dropped.has(from)) continue;
    const input = base.get(from)!;
    places
      .get(input.file)!
      .push(placeOf({ tensor, input, target: byTensor.get(tensor), dtype: request.dtype }));
  }
  for (const target of targets) {
    if (outputs.has(target.tensor)) continue;
    const input = startOf(target, base);
    const file = input?.file ?? weights.at(-1)!.path;
    places.get(file)!.push(placeOf({ tensor: target.tensor, input, target, dtype: request.dtype }));
  }
  const shards = weights
    .filter((file) => places.get(file.path)!.length > 0)
    .map((file) => planShard(file, places.get(file.path)!));
  const steps = shards.flatMap((shard) => shard.steps);
  const used = new Set(steps.map((step) => step.input?.tensor));
  return {
    steps,
    shards: shards.map(({ steps: _, sameIndex: __, ...shard }) => shard),
    unused: [...base.values()].filter((tensor) => !used.has(tensor.name)),
    sameIndex: shards.length === weights.length && shards.every((shard) => shard.sameIndex),
  };
}

/** The one base tensor of the same shape that an added tensor's expression reads. */
function startOf(
  { expr, shape }: AdapterTarget,
  base: ReadonlyMap<string, LocatedTensor>,
): LocatedTensor | null {
  const read = leaves(expr).flatMap((leaf) => (leaf.op === "base" ? [base.get(leaf.tensor)!] : []));
  return read.find((tensor) => tensor.shape.join() === shape?.join()) ?? null;
}

interface PlaceRequest {
  readonly tensor: string;
  readonly input: LocatedTensor | null;
  readonly target: AdapterTarget | undefined;
  readonly dtype: MergeableDtype | null;
}

function placeOf({ tensor, input, target, dtype }: PlaceRequest): Place {
  const own = target?.dtype ?? input?.dtype;
  const shape = target?.shape ?? input?.shape;
  if (!own || !shape) throw new Error(`${tensor} is new, and its shape or dtype is not stated`);
  const stored = dtype !== null && isMergeable(own) ? dtype : own;
  const bytes = byteLength(stored, shape);
  if (bytes === null) throw new Error(`${tensor}: ${stored} [${shape}] has no size`);
  return { tensor, dtype: stored, shape, bytes, input, expr: changeOf(target, input) };
}

/** What is computed; `null` where the output tensor is the one it starts from, which is copied. */
function changeOf(target: AdapterTarget | undefined, input: LocatedTensor | null): Expr | null {
  const expr = target?.expr ?? null;
  return expr?.op === "base" && expr.tensor === input?.name ? null : expr;
}

function planShard(file: WeightFile, places: readonly Place[]) {
  const unmoved = new Map(file.tensors.map((tensor) => [tensor.name, tensor]));
  const same =
    places.length === file.tensors.length &&
    places.every(({ tensor, dtype, shape }) => {
      const before = unmoved.get(tensor);
      return before?.dtype === dtype && before.shape.join() === shape.join();
    });
  const ordered = same
    ? [...places].sort((a, b) => unmoved.get(a.tensor)!.begin - unmoved.get(b.tensor)!.begin)
    : places;
  let at = 0;
  const entries = ordered.map(({ tensor: name, dtype, shape, bytes }) => {
    const begin = at;
    at += bytes;
    return { name, dtype, shape, begin, end: at };
  });
  // transformers refuses a file whose metadata lacks the format; a header that may stay is kept byte for byte.
  const header =
    same && file.metadata.format !== undefined
      ? null
      : buildSafetensorsHeader({ ...file.metadata, format: "pt" }, entries);
  const dataStart = header?.byteLength ?? file.dataStart;
  return {
    path: file.path,
    size: dataStart + at,
    dataStart,
    header,
    sameIndex: same,
    steps: ordered.map(
      (place, i): PlanStep => ({
        ...place,
        file: file.path,
        outputBegin: dataStart + entries[i]!.begin,
        input: place.input && stepInput(place.input),
      }),
    ),
  };
}

function stepInput({ name, file, begin, end, dtype, shape }: LocatedTensor): StepInput {
  return { tensor: name, file, begin, bytes: end - begin, dtype, shape };
}
