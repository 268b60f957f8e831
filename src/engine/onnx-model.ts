import protobuf from "protobufjs/minimal.js";

type Writer = InstanceType<typeof protobuf.Writer>;

/*
 * Graphs in the ONNX format, as far as merges and forward passes need them: float32 values. Field numbers and type
 * codes are those of onnx.proto.
 */

/**
 * A value with its shape; float32. A negative size stands for one that differs from run to run; the same number means
 * the same size.
 */
export interface GraphValue {
  readonly name: string;
  readonly shape: readonly number[];
}

export type Attribute =
  | { readonly name: string; readonly float: number }
  | { readonly name: string; readonly int: number }
  | { readonly name: string; readonly ints: readonly number[] };

export interface GraphNode {
  /** ONNX operator, such as `Gemm`. */
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes: readonly Attribute[];
}

/** A constant of the graph: a float32 scalar, or int64 numbers such as a shape. */
export type Constant =
  | { readonly name: string; readonly float: number }
  | { readonly name: string; readonly ints: readonly number[] };

export interface Graph {
  readonly inputs: readonly GraphValue[];
  readonly constants: readonly Constant[];
  readonly nodes: readonly GraphNode[];
  readonly output: GraphValue;
}

/** Axes of reductions are attributes up to this version, which every execution provider knows. */
const OPSET = 17;
const IR_VERSION = 8;
const FLOAT = 1;
const INT64 = 7;
const ATTRIBUTE_TYPE = { float: 1, int: 2, ints: 7 } as const;

const VARINT = 0;
const FIXED32 = 5;
const BYTES = 2;
const tag = (field: number, wire: number) => (field << 3) | wire;

/** The bytes of a ModelProto. */
export function encodeModel(graph: Graph): Uint8Array<ArrayBuffer> {
  const writer = protobuf.Writer.create();
  writer.uint32(tag(1, VARINT)).int64(IR_VERSION);
  message(writer, 7, () => {
    for (const node of graph.nodes) message(writer, 1, () => writeNode(writer, node));
    text(writer, 2, "merge");
    for (const constant of graph.constants) message(writer, 5, () => writeConstant(writer, constant));
    for (const input of graph.inputs) message(writer, 11, () => writeValue(writer, input));
    message(writer, 12, () => writeValue(writer, graph.output));
  });
  message(writer, 8, () => writer.uint32(tag(2, VARINT)).int64(OPSET));
  return Uint8Array.from(writer.finish());
}

function message(writer: Writer, field: number, write: () => void): void {
  writer.uint32(tag(field, BYTES)).fork();
  write();
  writer.ldelim();
}

function text(writer: Writer, field: number, value: string): void {
  writer.uint32(tag(field, BYTES)).string(value);
}

function writeNode(writer: Writer, node: GraphNode): void {
  for (const input of node.inputs) text(writer, 1, input);
  text(writer, 2, node.output);
  text(writer, 4, node.op);
  for (const attribute of node.attributes) message(writer, 5, () => writeAttribute(writer, attribute));
}

function writeAttribute(writer: Writer, attribute: Attribute): void {
  text(writer, 1, attribute.name);
  if ("float" in attribute) {
    writer.uint32(tag(2, FIXED32)).float(attribute.float);
    writer.uint32(tag(20, VARINT)).int32(ATTRIBUTE_TYPE.float);
  } else if ("int" in attribute) {
    writer.uint32(tag(3, VARINT)).int64(attribute.int);
    writer.uint32(tag(20, VARINT)).int32(ATTRIBUTE_TYPE.int);
  } else {
    for (const value of attribute.ints) writer.uint32(tag(8, VARINT)).int64(value);
    writer.uint32(tag(20, VARINT)).int32(ATTRIBUTE_TYPE.ints);
  }
}

function writeConstant(writer: Writer, constant: Constant): void {
  if ("float" in constant) {
    writer.uint32(tag(2, VARINT)).int32(FLOAT);
    writer.uint32(tag(4, FIXED32)).float(constant.float);
  } else {
    writer.uint32(tag(1, VARINT)).int64(constant.ints.length);
    writer.uint32(tag(2, VARINT)).int32(INT64);
    for (const value of constant.ints) writer.uint32(tag(7, VARINT)).int64(value);
  }
  text(writer, 8, constant.name);
}

function writeValue(writer: Writer, { name, shape }: GraphValue): void {
  text(writer, 1, name);
  message(writer, 2, () =>
    message(writer, 1, () => {
      writer.uint32(tag(1, VARINT)).int32(FLOAT);
      message(writer, 2, () => {
        for (const dim of shape) message(writer, 1, () => writeSize(writer, dim));
      });
    }),
  );
}

function writeSize(writer: Writer, size: number): void {
  if (size < 0) text(writer, 2, `size${-size}`);
  else writer.uint32(tag(1, VARINT)).int64(size);
}
