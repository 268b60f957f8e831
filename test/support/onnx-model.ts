/*
 * The ONNX graph `y = alpha·(b·a) + w` (one Gemm, opset 17, float32), encoded by hand: the protobuf wire format of one
 * node is thirty lines, and the test needs no library for it. Field numbers are those of onnx.proto.
 */
const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
const tag = (field: number, wire: number) => varint((field << 3) | wire);
const int = (field: number, value: number) => [...tag(field, 0), ...varint(value)];
const message = (field: number, bytes: readonly number[]) => [
  ...tag(field, 2),
  ...varint(bytes.length),
  ...bytes,
];
const text = (field: number, value: string) => message(field, [...new TextEncoder().encode(value)]);
const float = (field: number, value: number) => [
  ...tag(field, 5),
  ...new Uint8Array(new Float32Array([value]).buffer),
];

const FLOAT = 1;

function tensor(name: string, dims: readonly string[]): number[] {
  const shape = dims.flatMap((dim) => message(1, text(2, dim)));
  return [...text(1, name), ...message(2, message(1, [...int(1, FLOAT), ...message(2, shape)]))];
}

/** Inputs b (m×k), a (k×n), w (m×n); output y (m×n). */
export function gemmModel(alpha: number): Uint8Array {
  const attribute = [...text(1, "alpha"), ...float(2, alpha), ...int(20, 1)];
  const node = [
    ...["b", "a", "w"].flatMap((name) => text(1, name)),
    ...text(2, "y"),
    ...text(4, "Gemm"),
    ...message(5, attribute),
  ];
  const graph = [
    ...message(1, node),
    ...text(2, "low-rank-update"),
    ...message(11, tensor("b", ["m", "k"])),
    ...message(11, tensor("a", ["k", "n"])),
    ...message(11, tensor("w", ["m", "n"])),
    ...message(12, tensor("y", ["m", "n"])),
  ];
  return new Uint8Array([...int(1, 8), ...message(7, graph), ...message(8, int(2, 17))]);
}
