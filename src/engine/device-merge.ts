import { join } from "node:path";
import {
  addDistances,
  type DeviceStatus,
  type DeviceUse,
  MAX_ULP,
  type OnnxDevice,
} from "../core/devices.ts";
import { AppError, type Finding } from "../core/errors.ts";
import { requireDevice } from "./devices.ts";
import type { EngineEvent, EngineOptions } from "./events.ts";
import type { Nearness } from "./nearness.ts";
import { deviceBytes, runOnDevice } from "./onnx-pool.ts";
import { type Placement, placementOf } from "./onnx-tiles.ts";
import type { TensorResult, TensorTask } from "./pool.ts";
import { type TaskInputs, tensorTasks } from "./tasks.ts";

/** A merge on a device that was tried out. */
export interface DevicePlan {
  readonly status: DeviceStatus;
  /** What it computes, with no outputs yet. */
  readonly tasks: readonly TensorTask[];
  /** Touched tensors that keep their canonical value, with the reason. */
  readonly onCpu: ReadonlyMap<string, string>;
}

/** Why a tensor that changes keeps its canonical value; null where that is nothing to speak of. */
function reasonOf(placement: Extract<Placement, { on: "cpu" }>): string | null {
  if (placement.why === "moved") return null;
  if (placement.why === "lacking") return `need ${placement.what}, which no device computes`;
  return "are stored in float32, where no rounding hides in which order a device sums";
}

/**
 * Says what a device would compute of a merge.
 * @throws DEVICE_UNAVAILABLE; DEVICE_UNSUITABLE where it would compute nothing
 */
export async function planOnDevice(inputs: TaskInputs, device: OnnxDevice): Promise<DevicePlan> {
  const tasks: TensorTask[] = [];
  const onCpu = new Map<string, string>();
  for (const task of tensorTasks(inputs)) {
    if (!task.program) continue;
    const placement = placementOf(task);
    if (placement.on === "device") tasks.push(task);
    else {
      const reason = reasonOf(placement);
      if (reason) onCpu.set(task.name, reason);
    }
  }
  if (tasks.length === 0) throw unsuitable(device, onCpu);
  return { status: await requireDevice(device), tasks, onCpu };
}

function unsuitable(device: OnnxDevice, onCpu: ReadonlyMap<string, string>): AppError {
  const [reason = "are only replaced"] = onCpu.values();
  return new AppError(
    "DEVICE_UNSUITABLE",
    `nothing of this merge can be computed on ${device}: the tensors that it changes ${reason}. Merge with --device cpu.`,
    { field: "device", details: { device } },
  );
}

export interface Recomputed {
  /** Of all tensors: those that the device computed have their new digests and statistics. */
  readonly results: ReadonlyMap<string, TensorResult>;
  readonly use: DeviceUse;
  readonly warnings: readonly Finding[];
}

export interface RecomputeRequest {
  readonly planned: DevicePlan;
  /** The plan whose shards stand in `staging` with canonical values in them. */
  readonly plan: TaskInputs["plan"];
  readonly staging: string;
  readonly results: ReadonlyMap<string, TensorResult>;
}

/**
 * Computes a merge's tensors on a device, over the canonical values that were written before: every element is compared
 * with the one that it replaces.
 * @throws DEVICE_DIFFERS where one is further than a unit in the last place at the larger of |W| and |W′|;
 *   DEVICE_FAILED, DISK_FULL, …
 */
export async function* recompute(
  { planned, plan, staging, results }: RecomputeRequest,
  options: EngineOptions & { readonly failWritesAfter?: number },
): AsyncGenerator<EngineEvent, Recomputed> {
  const { status } = planned;
  const device = status.device as OnnxDevice;
  const steps = new Map(plan.steps.map((step) => [step.tensor, step]));
  const tasks = planned.tasks.map((task): TensorTask => {
    const { file, outputBegin } = steps.get(task.name)!;
    return { ...task, output: { path: join(staging, file), offset: outputBegin } };
  });
  const message = `computing ${tasks.length} tensors on ${device}${status.name ? ` (${status.name})` : ""}`;
  yield { type: "stage", stage: "merge", message };
  const after = new Map(results);
  const near = new Map<string, Nearness>();
  const onCpu = new Map(planned.onCpu);
  const { signal, failWritesAfter } = options;
  const total = deviceBytes(tasks);
  for await (const event of runOnDevice(tasks, { device, compare: true, signal, failWritesAfter })) {
    if (event.type === "progress") yield { type: "progress", stage: "merge", done: event.bytes, total };
    else if (event.type === "declined") onCpu.set(event.name, `need ${event.why}`);
    else if (event.near) {
      const { digest, stats } = event;
      near.set(event.name, event.near);
      const { changed } = event.near;
      after.set(event.name, { ...after.get(event.name)!, outputDigest: digest, outputStats: stats, changed });
    }
  }
  if (near.size === 0) throw unsuitable(device, onCpu);
  requireNear(device, near);
  return {
    results: after,
    use: describedUse(status, near, onCpu.size),
    warnings: warningsOf(device, onCpu, plan),
  };
}

function describedUse(status: DeviceStatus, near: ReadonlyMap<string, Nearness>, onCpu: number): DeviceUse {
  const { device, provider, name, version } = status;
  return {
    device: device as OnnxDevice,
    provider,
    name,
    version: version ?? "",
    tensors: near.size,
    onCpu,
    ...addDistances(near.values()),
  };
}

function requireNear(device: OnnxDevice, near: ReadonlyMap<string, Nearness>): void {
  const far = [...near].filter(([, { maxUlp }]) => maxUlp > MAX_ULP);
  if (far.length === 0) return;
  const worst = far.reduce((a, b) => (b[1].maxUlp > a[1].maxUlp ? b : a));
  const others = far.length === 1 ? "" : ` and in ${far.length - 1} other tensors`;
  throw new AppError(
    "DEVICE_DIFFERS",
    `${device} computes other values than the canonical arithmetic: in tensor "${worst[0]}"${others} an element is ` +
      `${Number(worst[1].maxUlp.toPrecision(3))} units in the last place away, and at most ${MAX_ULP} is allowed. ` +
      "Merge with --device cpu, or update the device's driver.",
    { details: { device, tensor: worst[0], maxUlp: worst[1].maxUlp } },
  );
}

function warningsOf(
  device: OnnxDevice,
  onCpu: ReadonlyMap<string, string>,
  plan: TaskInputs["plan"],
): Finding[] {
  return [...new Set(onCpu.values())].map((reason) => {
    const names = [...onCpu].filter(([, why]) => why === reason).map(([name]) => name);
    const shown = names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
    return {
      code: "COMPUTED_ON_CPU",
      message: `${names.length} of ${plan.touched.length} changed tensors were computed on the CPU instead of ${device}: they ${reason} (${shown}).`,
    };
  });
}
