import { DTYPE_BITS } from "./dtype.ts";
import { unpickle } from "./pickle.ts";
import { isKind, MAX_PICKLE_BYTES, type PickleValue } from "./pickle-machine.ts";
import type { TensorHeader } from "./safetensors.ts";
import type { ByteSource } from "./source.ts";
import { badTorchFile, placeTensors, readTorchState, STATE_GLOBALS, type TorchState } from "./torch-state.ts";

/** What torch.save wrote first before version 1.6, and writes still with _use_new_zipfile_serialization=False. */
const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

/**
 * Reads the tensors of a file of torch.save's older format: five pickles (magic number, protocol, facts of the
 * machine, the object, the keys of its storages), then each storage as a 64-bit count and its elements.
 * @throws UNSAFE_PICKLE, BAD_FILE
 */
export async function readLegacyTorchFile(source: ByteSource): Promise<TensorHeader[]> {
  const { name: file, size } = source;
  const bytes = await source.read(0, Math.min(size, MAX_PICKLE_BYTES));
  let end = 0;
  const next = (): PickleValue => {
    const read = unpickle(bytes, { name: file, globals: STATE_GLOBALS, start: end });
    end = read.end;
    return read.value;
  };
  if (next() !== MAGIC || next() !== PROTOCOL) {
    throw badTorchFile(file, "it does not start as torch.save starts a file");
  }
  requireLittleEndian(next(), file);
  const state = readTorchState(next(), file);
  const keys = next();
  if (!isKind(keys, "list")) throw badTorchFile(file, "it has no list of its storages");
  const places = await walkStorages(source, { state, keys: keys.items, from: end });
  return placeTensors(state, places, { file, size });
}

function requireLittleEndian(facts: PickleValue, file: string): void {
  const items = isKind(facts, "dict") ? facts.items : [];
  if (items[items.indexOf("little_endian") + 1] !== true) {
    throw badTorchFile(file, "its elements are big-endian, or it does not say what they are");
  }
}

async function walkStorages(
  source: ByteSource,
  { state, keys, from }: { state: TorchState; keys: readonly PickleValue[]; from: number },
): Promise<Map<string, { begin: number; end: number }>> {
  const places = new Map<string, { begin: number; end: number }>();
  let at = from;
  for (const key of keys) {
    const storage = typeof key === "string" ? state.storages.get(key) : undefined;
    if (typeof key !== "string" || !storage || places.has(key)) {
      throw badTorchFile(source.name, "its list of storages is not that of its tensors");
    }
    const begin = at + 8;
    at = begin + (storage.count * DTYPE_BITS[storage.dtype]) / 8;
    if (at > source.size)
      throw badTorchFile(source.name, `storage ${key} ends beyond the file: it was cut short`);
    const count = await source.read(begin - 8, begin);
    const stored = new DataView(count.buffer, count.byteOffset, 8).getBigInt64(0, true);
    if (stored !== BigInt(storage.count)) {
      throw badTorchFile(
        source.name,
        `storage ${key} says ${stored} elements, its tensors say ${storage.count}`,
      );
    }
    places.set(key, { begin, end: at });
  }
  if (at !== source.size) {
    throw badTorchFile(source.name, `its storages end at byte ${at}, but the file has ${source.size} bytes`);
  }
  return places;
}
