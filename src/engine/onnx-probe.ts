import { execFile } from "node:child_process";
import { cpus, totalmem } from "node:os";
import type { OnnxDevice } from "../core/devices.ts";
import { readSmallFile } from "../storage/tensor-io.ts";
import { addGemm, GraphBuilder } from "./onnx-graph.ts";
import type { Sessions } from "./onnx-session.ts";

/** What a device says of itself once it has computed something. */
export interface ProbedDevice {
  readonly version: string;
  readonly name: string | null;
  readonly memoryBytes: number | null;
}

const NVIDIA_SMI_MS = 5_000;

/** Computes one small update, and finds out what computed it. @throws whatever the runtime says is missing */
export async function probeSession(sessions: Sessions, device: OnnxDevice): Promise<ProbedDevice> {
  const g = new GraphBuilder();
  const [left, right, to] = [g.input("l", [2, 1]), g.input("r", [1, 2]), g.input("w", [2, 2])];
  const model = g.encode(addGemm(g, { left, right, to, scale: 0.5 }));
  const fed = (shape: readonly number[], ...values: number[]) => ({
    shape,
    values: Float32Array.from(values),
  });
  const into = fed([2, 2], 0, 0, 0, 0);
  await sessions.run(model, [fed([2, 1], 2, 4), fed([1, 2], 1, 3), fed([2, 2], 1, 1, 1, 1)], into);
  if (into.values.join() !== "2,4,3,7") throw new Error(`it computed ${into.values} instead of 2,4,3,7`);
  const { version } = sessions;
  if (device === "onnx-cpu") return { version, name: cpus()[0]?.model ?? null, memoryBytes: totalmem() };
  if (device === "cuda") return { version, ...(await nvidia()) };
  return { version, name: device === "webgpu" ? vulkanDriver() : null, memoryBytes: null };
}

/** ONNX Runtime takes the first card. */
function nvidia(): Promise<{ name: string | null; memoryBytes: number | null }> {
  const query = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"];
  return new Promise((resolve) => {
    execFile("nvidia-smi", query, { timeout: NVIDIA_SMI_MS }, (error, stdout) => {
      const [name, mebibytes] = (stdout.split("\n")[0] ?? "").split(",").map((part) => part.trim());
      if (error || !name) resolve({ name: null, memoryBytes: null });
      else resolve({ name, memoryBytes: Number(mebibytes) * 2 ** 20 || null });
    });
  });
}

const VULKAN_DRIVERS: readonly (readonly [library: RegExp, name: string])[] = [
  [/\/libvk_swiftshader/, "SwiftShader (software)"],
  [/\/libGLX_nvidia|\/libnvidia-glcore|\/libEGL_nvidia/, "NVIDIA"],
  [/\/libvulkan_radeon|\/amdvlk/, "AMD"],
  [/\/libvulkan_intel/, "Intel"],
  [/\/libvulkan_lvp/, "llvmpipe (software)"],
];

/**
 * ONNX Runtime does not tell which adapter it took, but its process has that adapter's Vulkan driver loaded. Several
 * drivers may be: then nothing is said.
 */
function vulkanDriver(): string | null {
  let maps: string;
  try {
    maps = new TextDecoder().decode(readSmallFile("/proc/self/maps"));
  } catch {
    return null;
  }
  const loaded = VULKAN_DRIVERS.filter(([library]) => library.test(maps));
  return loaded.length === 1 ? loaded[0]![1] : null;
}
