import type { MergeableDtype } from "./dtype.ts";

/** What multiplies: `cpu` is the canonical arithmetic, the others are ONNX Runtime's execution providers. */
export const DEVICES = ["cpu", "webgpu", "cuda", "coreml", "dml", "onnx-cpu"] as const;
export type DeviceName = (typeof DEVICES)[number];
/** A device whose results are near the canonical values, not equal to them. */
export type OnnxDevice = Exclude<DeviceName, "cpu">;
export const ONNX_DEVICES = DEVICES.filter((device) => device !== "cpu");

export const DEVICE_PROVIDERS: Readonly<Record<DeviceName, string>> = {
  cpu: "WebAssembly SIMD",
  webgpu: "ONNX Runtime WebGPU",
  cuda: "ONNX Runtime CUDA",
  coreml: "ONNX Runtime Core ML",
  dml: "ONNX Runtime DirectML",
  "onnx-cpu": "ONNX Runtime CPU",
};

/** A device as a machine has it, or why it has not. */
export interface DeviceStatus {
  readonly device: DeviceName;
  readonly provider: string;
  /** What it calls itself; null where nothing tells. */
  readonly name: string | null;
  /** Its own memory, or the machine's for a processor; null where nothing tells. */
  readonly memoryBytes: number | null;
  /** Of what runs on it; null where that is not installed. */
  readonly version: string | null;
  readonly available: boolean;
  /** What is missing and how to get it; null where it is available. */
  readonly reason: string | null;
}

/** How far computed elements lie from the canonical ones. */
export interface Distance {
  /** Elements whose stored bits differ. */
  readonly differing: number;
  readonly elements: number;
  /** The largest difference, in units in the last place at the larger of |W| and |W′|; infinite where only one is a number. */
  readonly maxUlp: number;
}

/** What a merge, or a verification of one, found of the device that computed it. */
export interface DeviceUse extends Distance {
  readonly device: OnnxDevice;
  readonly provider: string;
  readonly name: string | null;
  /** ONNX Runtime's. */
  readonly version: string;
  /** Tensors that it computed. */
  readonly tensors: number;
  /** Changed tensors that it could not, and that have their canonical value. */
  readonly onCpu: number;
}

/** A merge on a device is refused where an element is further than this from its canonical value. */
export const MAX_ULP = 1;

export const NO_DISTANCE: Distance = { differing: 0, elements: 0, maxUlp: 0 };

export function addDistances(distances: Iterable<Distance>): Distance {
  let { differing, elements, maxUlp } = NO_DISTANCE;
  for (const distance of distances) {
    differing += distance.differing;
    elements += distance.elements;
    maxUlp = Math.max(maxUlp, distance.maxUlp);
  }
  return { differing, elements, maxUlp };
}

/** Bits of the fraction, and the exponent of the smallest normal number. */
const FORMATS: Readonly<Record<MergeableDtype, { fraction: number; least: number }>> = {
  BF16: { fraction: 7, least: -126 },
  F16: { fraction: 10, least: -14 },
  F32: { fraction: 23, least: -126 },
};

const view = new DataView(new ArrayBuffer(8));

/** Spacing of a storage type's values at a magnitude; below the normal numbers it is that of the smallest of them. */
export function ulpAt(dtype: MergeableDtype, magnitude: number): number {
  view.setFloat64(0, magnitude);
  const exponent = ((view.getUint32(0) >>> 20) & 0x7ff) - 1023;
  const { fraction, least } = FORMATS[dtype];
  return 2 ** (Math.max(exponent, least) - fraction);
}
