import type { Random } from "./random.ts";

const NUMBERS = [0, 1, 2, 4, 7, 8, 127, 128, 255];

/** Bytes with some of them changed, removed, repeated or cut off, within a range. */
export function mutateBytes(
  file: Uint8Array,
  random: Random,
  { from = 0, to = file.byteLength }: { from?: number; to?: number } = {},
): Uint8Array {
  const out = Buffer.from(file);
  const times = 1 + random.below(6);
  for (let i = 0; i < times; i++) {
    const at = from + random.below(Math.max(1, to - from));
    if (at >= out.byteLength) continue;
    out[at] = random.chance(0.5) ? random.pick(NUMBERS) : random.below(256);
  }
  if (random.chance(0.15)) return out.subarray(0, random.below(out.byteLength + 1));
  if (random.chance(0.15)) {
    const at = from + random.below(Math.max(1, to - from));
    const piece = out.subarray(at, Math.min(out.byteLength, at + random.below(64)));
    return Buffer.concat([out.subarray(0, at), piece, out.subarray(random.chance(0.5) ? at : at + 8)]);
  }
  return out;
}

/** Opcodes of pickles, right ones and refused ones, with plausible arguments. */
const PIECES: readonly string[] = [
  "}",
  "]",
  ")",
  "(",
  "t",
  "u",
  "e",
  "s",
  "a",
  "l",
  "d",
  "0",
  "1",
  "2",
  "N",
  "R",
  "b",
  "Q",
  "o",
  "\x81",
  "\x85",
  "\x86",
  "\x87",
  "\x88",
  "\x89",
  "\x93",
  "\x94",
  "h\x00",
  "h\x05",
  "q\x00",
  "q\x05",
  "K\xff",
  "M\xff\xff",
  "J\xff\xff\xff\xff",
  "X\x01\x00\x00\x00a",
  "X\xff\xff\xff\xff",
  "\x8a\xff",
  "\x8b\xff\xff\xff\x7f",
  "\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
  "cos\nsystem\n",
  "cbuiltins\neval\n",
  "ctorch._utils\n_rebuild_tensor_v2\n",
  "ctorch\nFloatStorage\n",
  "ccollections\nOrderedDict\n",
  ".",
  "ios\nsystem\n",
  "\x80\x05",
  "\x95\x00\x00\x00\x00\x00\x00\x00\x00",
];

/** A pickle with opcodes put in, or of nothing but random opcodes. */
export function mutatePickle(file: Uint8Array, random: Random): Uint8Array {
  if (random.chance(0.2)) {
    const pieces = Array.from({ length: random.below(200) }, () => random.pick(PIECES));
    return Buffer.from(`\x80\x02${pieces.join("")}.`, "latin1");
  }
  if (random.chance(0.5)) return mutateBytes(file, random);
  const at = random.below(file.byteLength);
  const piece = Buffer.from(random.pick(PIECES).repeat(random.pick([1, 1, 2, 50_000])), "latin1");
  const skip = random.pick([0, piece.byteLength, random.below(30)]);
  return Buffer.concat([file.subarray(0, at), piece, file.subarray(at + skip)]);
}
