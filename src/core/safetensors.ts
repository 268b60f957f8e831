import { byteLength, type Dtype, isDtype } from "./dtype.ts";
import { AppError } from "./errors.ts";
import { isJsonObject, type JsonLimits, jsonExcess } from "./json.ts";
import type { ByteSource } from "./source.ts";

/** The format's own limit (safetensors library): a longer header is an attack or damage. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Far above any real checkpoint (a 1-trillion MoE in per-expert layout has about 100,000). */
export const MAX_TENSORS = 200_000;
export const MAX_DIMS = 8;
/** Names stand in messages and records; real ones end at a few hundred characters. */
export const MAX_NAME_LENGTH = 2000;

/** Each tensor is an object with two lists, and has at most `MAX_DIMS` sizes. */
const HEADER_LIMITS: JsonLimits = { containers: 3 * MAX_TENSORS + 10, commas: 12 * MAX_TENSORS };

export interface TensorHeader {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** First byte in the file, counted from the file's start. */
  readonly begin: number;
  /** One past the last byte in the file. */
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of their bytes. */
  readonly tensors: readonly TensorHeader[];
  /** Where tensor data starts: 8 + header length. */
  readonly dataStart: number;
}

/**
 * Reads and validates a safetensors header (format: 8-byte little-endian length, JSON, data).
 * Checks length and limits, JSON, duplicate names, dtypes, shapes, and that the tensors fill the data exactly.
 * @throws BAD_FILE with the file, the tensor and the reason
 */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  if (source.size < 8) throw bad(source, `it has ${source.size} bytes, too few for a header length`);
  const prefix = await source.read(0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw bad(source, `its header claims ${length} bytes, the limit is ${MAX_HEADER_BYTES}`);
  }
  const dataStart = 8 + Number(length);
  if (dataStart > source.size) {
    throw bad(source, `its header should end at byte ${dataStart}, but the file has ${source.size} bytes`);
  }
  const text = decode(source, await source.read(8, dataStart));
  return parseHeader(source, text, dataStart);
}

function decode(source: ByteSource, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw bad(source, "its header is not UTF-8");
  }
}

function parseHeader(source: ByteSource, text: string, dataStart: number): SafetensorsHeader {
  if (!text.startsWith("{")) throw bad(source, 'its header does not start with "{"');
  const excess = jsonExcess(text, HEADER_LIMITS);
  if (excess !== null) throw bad(source, `its header ${excess}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw bad(source, `its header is not JSON (${error instanceof Error ? error.message : error})`);
  }
  if (!isJsonObject(json)) throw bad(source, "its header is not a JSON object");
  const keys = Object.keys(json);
  if (keys.length > MAX_TENSORS + 1)
    throw bad(source, `it names ${keys.length} tensors, the limit is ${MAX_TENSORS}`);
  // JSON.parse keeps the last of two equal names; another reader may keep the first and load other weights.
  const repeated = firstRepeatedKey(text, keys.length);
  if (repeated !== null) throw bad(source, `its header names "${repeated}" twice`);

  const tensors: TensorHeader[] = [];
  for (const [name, entry] of Object.entries(json)) {
    if (name !== "__metadata__") tensors.push(parseTensor(source, name, entry, dataStart));
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkLayout(source, tensors, dataStart);
  return { metadata: parseMetadata(source, json.__metadata__), tensors, dataStart };
}

function parseMetadata(source: ByteSource, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isJsonObject(value) || !Object.values(value).every((v) => typeof v === "string")) {
    throw bad(source, "its __metadata__ is not an object of strings");
  }
  return { ...value } as Record<string, string>;
}

function parseTensor(source: ByteSource, name: string, entry: unknown, dataStart: number): TensorHeader {
  const say = (why: string) => bad(source, `tensor "${name}" ${why}`);
  if (name.length > MAX_NAME_LENGTH) {
    throw bad(source, `a tensor's name has ${name.length} characters, the limit is ${MAX_NAME_LENGTH}`);
  }
  if (!isJsonObject(entry)) throw say("has no description");
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isDtype(dtype)) throw say(`has the unknown dtype ${JSON.stringify(dtype)}`);
  if (!isCounts(shape)) throw say("has a shape that is not a list of whole numbers");
  if (shape.length > MAX_DIMS) throw say(`has ${shape.length} dimensions, the limit is ${MAX_DIMS}`);
  if (!isCounts(offsets) || offsets.length !== 2) throw say("has no pair of data_offsets");
  const [begin, end] = offsets as readonly [number, number];
  const bytes = byteLength(dtype, shape);
  if (bytes === null) throw say(`has an impossible size (${dtype} [${shape.join(", ")}])`);
  if (end - begin !== bytes) {
    throw say(
      `spans bytes ${begin}–${end}, but ${dtype} [${shape.join(", ")}] takes ${bytes}, not ${end - begin}`,
    );
  }
  if (dataStart + end > source.size) {
    throw say(
      `ends at byte ${dataStart + end}, beyond the file's ${source.size}: the file is cut short or damaged`,
    );
  }
  return { name, dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** Tensors must follow each other without overlap or gap and end where the file ends, as the format demands. */
function checkLayout(source: ByteSource, tensors: readonly TensorHeader[], dataStart: number): void {
  let at = dataStart;
  let previous = "the header";
  for (const tensor of tensors) {
    if (tensor.begin < at) throw bad(source, `tensor "${tensor.name}" overlaps ${previous}`);
    if (tensor.begin > at)
      throw bad(source, `there is a gap of ${tensor.begin - at} bytes before tensor "${tensor.name}"`);
    at = tensor.end;
    previous = `tensor "${tensor.name}"`;
  }
  if (at !== source.size) {
    throw bad(source, `its tensors end at byte ${at}, but the file has ${source.size} bytes`);
  }
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** Finds a key that stands twice in the outermost object; `expected` is how many keys JSON.parse kept. */
function firstRepeatedKey(text: string, expected: number): string | null {
  const seen = new Set<string>();
  let depth = 0;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x7b || c === 0x5b) depth++;
    else if (c === 0x7d || c === 0x5d) depth--;
    else if (c === 0x22) {
      const start = i++;
      while (text.charCodeAt(i) !== 0x22) i += text.charCodeAt(i) === 0x5c ? 2 : 1;
      if (depth !== 1 || !/^\s*:/.test(text.slice(i + 1, i + 16))) continue;
      count++;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
    }
  }
  return count === expected ? null : "a tensor";
}

/**
 * Builds a header as the safetensors library writes it: `__metadata__` first, compact, padded with spaces to 8.
 * @param tensors offsets are counted from the start of the data
 * @returns length prefix and JSON; the data follows directly
 */
export function buildSafetensorsHeader(
  metadata: Readonly<Record<string, string>>,
  tensors: readonly { name: string; dtype: Dtype; shape: readonly number[]; begin: number; end: number }[],
): Uint8Array {
  const entries: [string, unknown][] = tensors.map((t) => [
    t.name,
    { dtype: t.dtype, shape: t.shape, data_offsets: [t.begin, t.end] },
  ]);
  if (Object.keys(metadata).length > 0) entries.unshift(["__metadata__", metadata]);
  // Written by hand because an object would move names that look like array indices to the front.
  const json = `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
  const body = new TextEncoder().encode(json);
  const padded = Math.ceil(body.byteLength / 8) * 8;
  const bytes = new Uint8Array(8 + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(body, 8);
  return bytes;
}

/** A name in a damaged header can be megabytes long, a message should not. */
const MAX_REASON = 600;

function bad(source: ByteSource, reason: string): AppError {
  const why = reason.length > MAX_REASON ? `${reason.slice(0, MAX_REASON)}…` : reason;
  return new AppError(
    "BAD_FILE",
    `${source.name} is not a valid safetensors file: ${why}. Download or save it again.`,
    {
      details: { file: source.name },
    },
  );
}
