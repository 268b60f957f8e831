import { AppError } from "../core/errors.ts";
import { readSafetensorsHeader, type TensorHeader } from "../core/safetensors.ts";
import type { ByteSource } from "../core/source.ts";
import { readTokenInput, type StoredInts, type TokenInput } from "../core/token-rows.ts";
import { FileSource } from "./file.ts";

const IDS = "input_ids";
const MASK = "attention_mask";
/** Inputs of transformers that a forward pass here does not take. */
const UNREAD = ["position_ids", "inputs_embeds", "labels"];
/** Tokens of one file; far more would run for days. */
const MAX_TOKENS = 50_000_000;

/**
 * Reads the texts of a safetensors file: every `<name>.input_ids` (I64 or I32), with `<name>.attention_mask` where it is
 * a padded batch, in the order of the file. Tensors of other names are results of somebody's, and are left alone.
 * @throws BAD_FILE; BAD_INPUT naming the tensor, also for inputs beside the ids that would change the result
 */
export async function readTokenFile(path: string): Promise<TokenInput[]> {
  await using source = await FileSource.open(path);
  const { tensors } = await readSafetensorsHeader(source);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const ids = tensors.filter(({ name }) => isNamed(name, IDS));
  if (ids.length === 0) {
    throw new AppError(
      "BAD_INPUT",
      `${path} holds no tensor called <name>.${IDS}: write the tokens of each text as one, of the type I64 or I32.`,
    );
  }
  const total = ids.reduce((sum, { begin, end }) => sum + (end - begin) / 4, 0);
  if (total > 2 * MAX_TOKENS) {
    throw new AppError("BAD_INPUT", `${path} holds more than ${MAX_TOKENS} tokens: run parts of it.`);
  }
  for (const { name } of tensors) {
    const owner = name.slice(0, -MASK.length);
    if (isNamed(name, MASK) && !byName.has(`${owner}${IDS}`)) {
      throw bad(path, name, `masks nothing: there is no ${owner}${IDS}.`);
    }
  }
  const inputs: TokenInput[] = [];
  for (const tensor of ids) inputs.push(await readOne(source, { tensor, byName, path }));
  return inputs;
}

const isNamed = (name: string, word: string) => name === word || name.endsWith(`.${word}`);

async function readOne(
  source: ByteSource,
  { tensor, byName, path }: { tensor: TensorHeader; byName: ReadonlyMap<string, TensorHeader>; path: string },
): Promise<TokenInput> {
  const prefix = tensor.name.slice(0, -IDS.length);
  for (const word of UNREAD) {
    const name = `${prefix}${word}`;
    if (byName.has(name)) throw bad(path, name, "is not read here, and would change what the model gives.");
  }
  const segments = byName.get(`${prefix}token_type_ids`);
  if (segments && someSet((await readInts(source, segments, path)).values)) {
    throw bad(path, segments.name, "is not all zero: texts of two parts are not run here.");
  }
  if (tensor.dtype !== "I64" && tensor.dtype !== "I32") {
    throw bad(path, tensor.name, `is stored as ${tensor.dtype}: tokens are read from I64 and I32.`);
  }
  const mask = byName.get(`${prefix}${MASK}`);
  const ints = await readInts(source, tensor, path);
  return readTokenInput(prefix, ints, mask ? await readInts(source, mask, path) : null);
}

const someSet = (values: StoredInts["values"]) =>
  Array.prototype.some.call(values, (value) => Number(value) !== 0);

async function readInts(source: ByteSource, tensor: TensorHeader, path: string): Promise<StoredInts> {
  const { name, dtype, shape, begin, end } = tensor;
  const { buffer } = (await source.read(begin, end)) as Uint8Array<ArrayBuffer>;
  if (dtype === "I64") return { shape, values: new BigInt64Array(buffer) };
  if (dtype === "I32") return { shape, values: new Int32Array(buffer) };
  if (dtype === "U8" || dtype === "BOOL") return { shape, values: new Uint8Array(buffer) };
  throw bad(path, name, `is stored as ${dtype}: whole numbers are read from I64, I32, U8 and BOOL.`);
}

function bad(path: string, tensor: string, what: string): AppError {
  return new AppError("BAD_INPUT", `${path}: ${tensor} ${what}`, { details: { tensor } });
}
