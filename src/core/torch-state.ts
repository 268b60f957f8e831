import { byteLength, DTYPE_BITS, type Dtype, elementCount } from "./dtype.ts";
import { AppError } from "./errors.ts";
import { isKind, type PickleValue } from "./pickle-machine.ts";
import { MAX_DIMS, MAX_NAME_LENGTH, MAX_TENSORS, type TensorHeader } from "./safetensors.ts";

/** Storage classes of torch and their element types; complex and quantised ones are not read. */
const STORAGES: Readonly<Record<string, Dtype>> = {
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  DoubleStorage: "F64",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

const REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER = "torch._utils._rebuild_parameter";

/** Everything that a pickled state dictionary may name. torch before 1.10 pickled storages on a GPU as torch.cuda's. */
export const STATE_GLOBALS: ReadonlySet<string> = new Set([
  "collections.OrderedDict",
  REBUILD_TENSOR,
  REBUILD_PARAMETER,
  ...Object.keys(STORAGES).flatMap((name) => [`torch.${name}`, `torch.cuda.${name}`]),
]);

/** A part of a pickled file that tensors share: its key, and what its elements are. */
export interface TorchStorage {
  readonly dtype: Dtype;
  /** Elements. */
  readonly count: number;
}

export interface StateTensor {
  readonly name: string;
  readonly storage: string;
  readonly dtype: Dtype;
  /** Elements before the first one. */
  readonly offset: number;
  readonly shape: readonly number[];
}

export interface TorchState {
  readonly tensors: readonly StateTensor[];
  readonly storages: ReadonlyMap<string, TorchStorage>;
}

/** Refuses a file, with a reason. */
export function badTorchFile(file: string, why: string): AppError {
  const reason = why.length > 600 ? `${why.slice(0, 600)}…` : why;
  return new AppError(
    "BAD_FILE",
    `${file} is not a torch file of tensors that can be read: ${reason}. Save the adapter again as safetensors (PEFT: save_pretrained), or download the file again.`,
    { details: { file } },
  );
}

/**
 * Reads the tensors of a pickled state dictionary: names, storages, shapes and offsets.
 * @throws BAD_FILE for anything but a dictionary of tensors that lie row-major in their storages
 */
export function readTorchState(value: PickleValue, file: string): TorchState {
  if (!isKind(value, "dict")) throw badTorchFile(file, `it holds ${describe(value)}, not a dictionary`);
  if (value.items.length / 2 > MAX_TENSORS) throw badTorchFile(file, `it names over ${MAX_TENSORS} tensors`);
  const storages = new Map<string, TorchStorage>();
  const tensors: StateTensor[] = [];
  const names = new Set<string>();
  for (let i = 0; i < value.items.length; i += 2) {
    const name = value.items[i];
    if (typeof name !== "string") throw badTorchFile(file, `it has ${describe(name)} where a name should be`);
    if (name.length > MAX_NAME_LENGTH) throw badTorchFile(file, `a name has ${name.length} characters`);
    if (names.has(name)) throw badTorchFile(file, `it names "${name}" twice`);
    names.add(name);
    tensors.push(readTensor({ name, value: value.items[i + 1], storages, file }));
  }
  return { tensors, storages };
}

interface Entry {
  readonly name: string;
  readonly value: PickleValue | undefined;
  readonly storages: Map<string, TorchStorage>;
  readonly file: string;
}

function readTensor({ name, value, storages, file }: Entry): StateTensor {
  const say = (why: string) => badTorchFile(file, `"${name}" ${why}`);
  const call = isKind(value, "call") && value.name === REBUILD_PARAMETER ? value.args[0] : value;
  if (!isKind(call, "call") || call.name !== REBUILD_TENSOR) throw say(`is ${describe(call)}, not a tensor`);
  const [stored, offset, size, stride, , hooks, metadata] = call.args;
  const { key, ...storage } = readStorage(stored, say);
  const shape = readCounts(size);
  const strides = readCounts(stride);
  if (!shape || !strides || shape.length !== strides.length || !isCount(offset)) {
    throw say(`has no shape, strides or offset, or more than ${MAX_DIMS} dimensions`);
  }
  if (!isRowMajor(shape, strides)) {
    throw say(`is a view with strides [${strides}] for shape [${shape}], not stored row by row`);
  }
  if (!isNothing(hooks) || !isNothing(metadata)) throw say("carries hooks or flags (conjugate, negative)");
  const count = elementCount(shape);
  if (byteLength(storage.dtype, shape) === null || offset + count > storage.count) {
    throw say(`takes elements ${offset} to ${offset + count} of a storage of ${storage.count}`);
  }
  const known = storages.get(key) ?? storage;
  if (known.dtype !== storage.dtype || known.count !== storage.count) {
    throw say(`takes storage ${key} for ${storage.count} ${storage.dtype}, another one for other elements`);
  }
  storages.set(key, known);
  return { name, storage: key, dtype: storage.dtype, offset, shape };
}

/** What stands for a storage: ("storage", class, key, device, elements) and, in the older format, a view, which is refused. */
function readStorage(value: PickleValue | undefined, say: (why: string) => AppError) {
  const id = isKind(value, "persistent") && isKind(value.id, "tuple") ? value.id.items : [];
  const [word, type, key, , count, view = null] = id;
  const dtype = isKind(type, "global") ? STORAGES[type.name.split(".").at(-1)!] : undefined;
  if (word !== "storage" || dtype === undefined || typeof key !== "string" || !isCount(count)) {
    throw say("has no storage");
  }
  if (key.length > 100) throw say("has a storage with an overlong key");
  if (view !== null) throw say("has a storage that is a view of another one");
  return { key, dtype, count };
}

/** Each dimension steps over the ones after it; what a dimension of one element steps over does not matter. */
function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let step = 1;
  if (shape.includes(0)) return true;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== step) return false;
    step *= shape[i]!;
  }
  return true;
}

/** Shared storages make a file of tensors larger than itself; tied embeddings are the only honest reason. */
const MAX_SHARING = 4;

/**
 * Puts the tensors of a state at their bytes in the file.
 * @param places where each storage's bytes are
 */
export function placeTensors(
  { tensors, storages }: TorchState,
  places: ReadonlyMap<string, { readonly begin: number; readonly end: number }>,
  { file, size }: { readonly file: string; readonly size: number },
): TensorHeader[] {
  for (const [key, { dtype, count }] of storages) {
    const place = places.get(key);
    const bytes = (count * DTYPE_BITS[dtype]) / 8;
    if (!place) throw badTorchFile(file, `storage ${key} is missing`);
    if (place.end - place.begin !== bytes) {
      throw badTorchFile(file, `storage ${key} has ${place.end - place.begin} bytes, not ${bytes}`);
    }
  }
  const placed = tensors.map(({ name, storage, dtype, offset, shape }): TensorHeader => {
    const begin = places.get(storage)!.begin + (offset * DTYPE_BITS[dtype]) / 8;
    return { name, dtype, shape, begin, end: begin + byteLength(dtype, shape)! };
  });
  const total = placed.reduce((sum, { begin, end }) => sum + end - begin, 0);
  if (total > MAX_SHARING * size) {
    throw badTorchFile(file, `its tensors take ${total} bytes in all, the file has ${size}`);
  }
  return placed.sort((a, b) => a.begin - b.begin || a.end - b.end);
}

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function readCounts(value: PickleValue | undefined): readonly number[] | null {
  if (!isKind(value, "tuple") || value.items.length > MAX_DIMS) return null;
  return value.items.every(isCount) ? value.items : null;
}

function isNothing(value: PickleValue | undefined): boolean {
  return value === undefined || value === null || (isKind(value, "dict") && value.items.length === 0);
}

function describe(value: PickleValue | undefined): string {
  if (value === null || value === undefined) return "nothing";
  if (typeof value !== "object") return `a ${typeof value}`;
  if (value.kind === "global" || value.kind === "call") return value.name;
  return value.kind === "persistent" ? "a storage" : `a ${value.kind}`;
}
