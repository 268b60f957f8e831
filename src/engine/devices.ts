import { arch, availableParallelism, cpus, platform, totalmem } from "node:os";
import {
  DEVICE_PROVIDERS,
  DEVICES,
  type DeviceName,
  type DeviceStatus,
  type OnnxDevice,
} from "../core/devices.ts";
import { AppError } from "../core/errors.ts";
import { ENGINE } from "../core/record.ts";
import { DeviceProcess } from "./onnx-pool.ts";
import type { ProbedDevice } from "./onnx-probe.ts";

/** A driver that hangs is a device that is not there. */
const PROBE_MS = 30_000;

/** What this machine can merge on: each device is tried out, in a process of its own. */
export async function listDevices(): Promise<DeviceStatus[]> {
  return await Promise.all(DEVICES.map(deviceStatus));
}

/**
 * The device, tried out a moment ago.
 * @throws DEVICE_UNAVAILABLE naming what is missing and how to get it
 */
export async function requireDevice(device: OnnxDevice): Promise<DeviceStatus> {
  const status = await deviceStatus(device);
  if (status.available) return status;
  throw new AppError(
    "DEVICE_UNAVAILABLE",
    `the device ${device} is not available here: ${status.reason} Without it, --device cpu merges in the canonical arithmetic.`,
    { field: "device", details: { device } },
  );
}

export async function deviceStatus(device: DeviceName): Promise<DeviceStatus> {
  const head = { device, provider: DEVICE_PROVIDERS[device] };
  if (device === "cpu") {
    const name = `${cpus()[0]?.model ?? arch()}, ${availableParallelism()} threads`;
    return { ...head, name, memoryBytes: totalmem(), version: ENGINE.version, available: true, reason: null };
  }
  const elsewhere = wrongPlatform(device);
  const missing = { ...head, name: null, memoryBytes: null, version: null, available: false };
  if (elsewhere) return { ...missing, reason: elsewhere };
  try {
    return { ...head, ...(await probe(device)), available: true, reason: null };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { ...missing, reason: reasonOf(device, text) };
  }
}

async function probe(device: OnnxDevice): Promise<ProbedDevice> {
  const child = new DeviceProcess();
  const late = setTimeout(
    () => child.fail(new Error(`nothing answered within ${PROBE_MS / 1000} s`)),
    PROBE_MS,
  );
  try {
    child.send({ type: "probe", device });
    const answer = await child.next();
    if (answer.type !== "probed") throw new Error(`a probe was answered with ${answer.type}`);
    return answer.found;
  } finally {
    clearTimeout(late);
    await child.kill();
  }
}

/** onnxruntime-node is built with these providers on these systems only. */
function wrongPlatform(device: OnnxDevice): string | null {
  if (device === "coreml" && platform() !== "darwin") return "Core ML is a part of macOS.";
  if (device === "dml" && platform() !== "win32") return "DirectML is a part of Windows.";
  if (device === "cuda" && !(platform() === "linux" && arch() === "x64")) {
    return "onnxruntime-node has its CUDA provider for Linux on x86-64 only.";
  }
  return null;
}

const HOW: Readonly<Partial<Record<OnnxDevice, string>>> = {
  webgpu:
    "On Linux it needs a Vulkan loader (Debian: libvulkan1) and the driver of a graphics card, which `vulkaninfo` would list. " +
    "Without a card, the software driver of the chromium package does: VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json.",
  cuda:
    "It needs an NVIDIA card with its driver, CUDA 12 and cuDNN 9, and the provider that onnxruntime-node downloads apart: " +
    "ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js",
};

function reasonOf(device: OnnxDevice, text: string): string {
  const said = text.split("\n")[0]!.replace(/^the process that uses the device failed: (Error: )?/, "");
  // ONNX Runtime's messages begin with its source file and the name of a C++ function.
  const plain = said.replace(/^.* was false\. |^\/\S+ .*?\(\S*\) /, "").replace(/\.$/, "");
  return [`${plain}.`, HOW[device]].filter(Boolean).join(" ");
}
