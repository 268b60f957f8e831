import { readFile, truncate, writeFile } from "node:fs/promises";

export interface RawTensor {
  dtype: string;
  shape: number[];
  bytes: Buffer;
  /** First byte in the file, where it was read from one. */
  offset?: number;
}

/** Reads a safetensors file the obvious way, independent of the code under test. */
export async function readTensors(path: string): Promise<Map<string, RawTensor>> {
  const file = await readFile(path);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, start).toString("utf8")) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = Object.entries(header).filter(([name]) => name !== "__metadata__");
  return new Map(
    tensors.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => [name, { dtype, shape, bytes: file.subarray(start + begin, start + end), offset: start + begin }],
    ),
  );
}

/** Writes tensors one after another with a plain header. */
export async function writeTensors(path: string, tensors: ReadonlyMap<string, RawTensor>): Promise<void> {
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.byteLength] };
    at += bytes.byteLength;
  }
  await writeRaw(path, JSON.stringify(header), Buffer.concat([...tensors.values()].map((t) => t.bytes)));
}

/** Writes any header text, right or wrong, with its length (or another one) before it. */
export async function writeRaw(path: string, header: string, data: Buffer, length?: bigint): Promise<void> {
  const text = Buffer.from(header, "utf8");
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(text.byteLength));
  await writeFile(path, Buffer.concat([prefix, text, data]));
}

/**
 * Adds a tensor of so many zero bytes at the end. The file gets a hole instead of the bytes and takes no more room on
 * the disk, but a copy of it would.
 */
export async function addHole(path: string, size: number): Promise<void> {
  const tensors = await readTensors(path);
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.byteLength] };
    at += bytes.byteLength;
  }
  header.hole = { dtype: "U8", shape: [size], data_offsets: [at, at + size] };
  const text = JSON.stringify(header);
  await writeRaw(path, text, Buffer.concat([...tensors.values()].map((t) => t.bytes)));
  await truncate(path, 8 + Buffer.byteLength(text) + at + size);
}
