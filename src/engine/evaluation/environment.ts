import { arch, cpus, platform, release } from "node:os";
import { DEVICE_PROVIDERS, type DeviceName } from "../../core/devices.ts";
import type { EvaluationReport } from "../../core/evaluation/report.ts";
import { ENGINE } from "../../core/record.ts";

/** Where an evaluation ran. */
export function environmentOf(
  device: DeviceName,
  { runtime, threads }: { runtime: string; threads: number },
): EvaluationReport["environment"] {
  return {
    graftwork: ENGINE.version,
    device,
    // A forward pass on the processor is ONNX Runtime's; merges there have kernels of their own.
    provider: DEVICE_PROVIDERS[device === "cpu" ? "onnx-cpu" : device],
    runtime,
    threads,
    platform: `${platform()} ${arch()} ${release()}`,
    processor: cpus()[0]?.model ?? arch(),
    node: process.version,
  };
}
