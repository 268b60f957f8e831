import type { WeightFile } from "../core/checkpoint.ts";
import { unpickle } from "../core/pickle.ts";
import { MAX_PICKLE_BYTES } from "../core/pickle-machine.ts";
import type { TensorHeader } from "../core/safetensors.ts";
import type { ByteSource } from "../core/source.ts";
import { readLegacyTorchFile } from "../core/torch-legacy.ts";
import { badTorchFile, placeTensors, readTorchState, STATE_GLOBALS } from "../core/torch-state.ts";
import { readStoredZip, type StoredEntry } from "./torch-zip.ts";

/**
 * What a file of torch.save holds, as of a safetensors file: names, types, shapes and where the bytes are, which the
 * engine reads in place. Other than in safetensors, tensors may share bytes and have gaps between them.
 * @throws UNSAFE_PICKLE naming what the pickle asks for, BAD_FILE
 */
export async function readTorchFile(source: ByteSource, path: string): Promise<WeightFile> {
  const tensors = await readTensors(source);
  return { path, size: source.size, dataStart: tensors[0]?.begin ?? source.size, metadata: {}, tensors };
}

async function readTensors(source: ByteSource): Promise<TensorHeader[]> {
  const [first, second] = await source.read(0, Math.min(2, source.size));
  if (first === 0x50 && second === 0x4b) return readZipped(source);
  if (first === 0x80) return readLegacyTorchFile(source);
  throw badTorchFile(source.name, "it starts with neither a zip archive nor a pickle");
}

/** The format since torch 1.6: `<name>/data.pkl`, the storages as `<name>/data/<key>`, uncompressed. */
async function readZipped(source: ByteSource): Promise<TensorHeader[]> {
  const { name: file, size } = source;
  const entries = await readStoredZip(source);
  const pickles = [...entries.keys()].filter((entry) => /^[^/]+\/data\.pkl$/.test(entry));
  if (pickles.length !== 1) throw badTorchFile(file, `it holds ${pickles.length} data.pkl, not one`);
  const prefix = pickles[0]!.slice(0, -"data.pkl".length);
  const byteOrder = entries.get(`${prefix}byteorder`);
  if (byteOrder && (await readText(source, byteOrder)) !== "little") {
    throw badTorchFile(file, "its elements are not little-endian");
  }
  const { begin, end } = entries.get(pickles[0]!)!;
  if (end - begin > MAX_PICKLE_BYTES) {
    throw badTorchFile(file, `its data.pkl has ${end - begin} bytes, the limit is ${MAX_PICKLE_BYTES}`);
  }
  const bytes = await source.read(begin, end);
  const read = unpickle(bytes, { name: file, globals: STATE_GLOBALS });
  if (read.end !== bytes.byteLength) throw badTorchFile(file, "something follows the pickle in data.pkl");
  const state = readTorchState(read.value, file);
  const storages = new Map<string, StoredEntry>();
  for (const key of state.storages.keys()) {
    const entry = entries.get(`${prefix}data/${key}`);
    if (entry) storages.set(key, entry);
  }
  return placeTensors(state, storages, { file, size });
}

async function readText(source: ByteSource, { begin, end }: StoredEntry): Promise<string> {
  return new TextDecoder().decode(await source.read(begin, Math.min(end, begin + 20)));
}
