import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { addDistances, type DeviceStatus, type Distance, type OnnxDevice } from "../../src/core/devices.ts";
import { base, lowRankUpdate, source } from "../../src/core/expr.ts";
import { listDevices } from "../../src/engine/devices.ts";
import { runOnDevice } from "../../src/engine/onnx-pool.ts";
import { type ProgramLeaf, runTensorTasks, type TensorTask } from "../../src/engine/pool.ts";
import { randomFloats } from "../support/tile.ts";
import { commit, machine, median } from "./machine.ts";

/*
 * LoRA of a few equal matrices on each device that this machine has, beside the canonical kernels on all of its
 * processors: the same files, in turns, so that what disturbs one disturbs the other. Nothing is hashed by the kernels.
 */
const USAGE =
  "npm run bench -- devices [--size 4096] [--matrices 4] [--ranks 16,64,256,512] [--rounds 3] [--save]";

interface Line {
  readonly device: string;
  readonly provider: string;
  readonly name: string | null;
  readonly rank: number;
  /** GB/s of stored weights. */
  readonly device_gbps: number;
  readonly kernels_gbps: number;
  /** Seconds of the device for one of the kernels: below 1 it is faster. Its process is started and its graphs made. */
  readonly ratio: number;
  /** The same with every element compared with the canonical one, as a merge does. */
  readonly ratio_checked: number;
  readonly distance: Distance;
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: "string", default: "4096" },
      matrices: { type: "string", default: "4" },
      ranks: { type: "string", default: "16,64,256,512" },
      rounds: { type: "string", default: "3" },
      save: { type: "boolean", default: false },
    },
  });
  const [size, matrices, rounds] = [Number(values.size), Number(values.matrices), Number(values.rounds)];
  const ranks = values.ranks.split(",").map(Number);
  if (![size, matrices, rounds, ...ranks].every((value) => Number.isInteger(value) && value > 0)) {
    throw new Error(USAGE);
  }
  const devices = await listDevices();
  for (const { device, reason } of devices) if (reason) console.log(`${device} is not available: ${reason}`);
  const folder = mkdtempSync(join(tmpdir(), "graftwork-bench-"));
  const lines: Line[] = [];
  try {
    for (const rank of ranks) {
      const tasks = makeTasks(folder, { size, matrices, rank });
      for (const status of devices) {
        if (!status.available || status.device === "cpu") continue;
        const line = await measure(tasks, { status, rank, rounds });
        lines.push(line);
        console.log(said(line));
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (!values.save) return;
  const path = new URL("./results/devices.json", import.meta.url);
  const date = new Date().toISOString().slice(0, 10);
  const setting = { date, commit: commit(), machine: machine(), size, matrices, dtype: "BF16" };
  writeFileSync(path, `${JSON.stringify({ ...setting, lines }, null, 2)}\n`);
}

/** Several updates of one W, each into a file of its own. */
function makeTasks(folder: string, of: { size: number; matrices: number; rank: number }): TensorTask[] {
  const { size, matrices, rank } = of;
  const store = (key: string, dtype: "BF16" | "F32", shape: [number, number], seed: number): ProgramLeaf => {
    const values = randomFloats(shape[0] * shape[1], seed, dtype === "BF16" ? 0.05 : 0.03);
    const words = new Uint32Array(values.buffer);
    // Cut down to bf16's bits: any bf16 values do.
    const bytes = dtype === "F32" ? words : Uint16Array.from(words, (bits) => bits >>> 16);
    const path = join(folder, key.replaceAll(" ", "-"));
    writeFileSync(path, bytes);
    return { key, path, offset: 0, bytes: bytes.byteLength, dtype, shape };
  };
  const input = store("base w", "BF16", [size, size], 1);
  const leaves = [store("source 0 a", "F32", [rank, size], 2), store("source 0 b", "F32", [size, rank], 3)];
  const [a, b] = [source(0, "a"), source(0, "b")];
  const expr = lowRankUpdate({ base: base("w").tensor, left: b, right: a, scale: 2, roundFirst: false });
  return Array.from({ length: matrices }, (_, i): TensorTask => {
    const path = join(folder, `out-${i}`);
    writeFileSync(path, new Uint8Array(input.bytes));
    const program = { expr, leaves, numerics: "peft-1" as const };
    const output = { path, offset: 0 };
    return { name: `w${i}`, dtype: "BF16", shape: [size, size], input, program, output, digests: "none" };
  });
}

async function measure(
  tasks: readonly TensorTask[],
  of: { status: DeviceStatus; rank: number; rounds: number },
): Promise<Line> {
  const { status, rank, rounds } = of;
  const device = status.device as OnnxDevice;
  const kernels: number[] = [];
  const plain: number[] = [];
  const checked: number[] = [];
  let distance: Distance = addDistances([]);
  for (let round = 0; round < rounds; round++) {
    plain.push((await onDevice(tasks, device, false)).seconds);
    kernels.push(await onKernels(tasks));
    const found = await onDevice(tasks, device, true);
    checked.push(found.seconds);
    distance = found.distance;
  }
  const bytes = tasks.reduce((sum, task) => sum + task.input!.bytes, 0);
  return {
    device,
    provider: `${status.provider} ${status.version}`,
    name: status.name,
    rank,
    device_gbps: bytes / median(plain) / 1e9,
    kernels_gbps: bytes / median(kernels) / 1e9,
    ratio: median(plain) / median(kernels),
    ratio_checked: median(checked) / median(kernels),
    distance,
  };
}

async function onKernels(tasks: readonly TensorTask[]): Promise<number> {
  const started = performance.now();
  for await (const _ of runTensorTasks(tasks, { threads: machine().cores }));
  return (performance.now() - started) / 1000;
}

async function onDevice(tasks: readonly TensorTask[], device: OnnxDevice, compare: boolean) {
  const started = performance.now();
  const found: Distance[] = [];
  for await (const event of runOnDevice(tasks, { device, compare })) {
    if (event.type === "tensor" && event.near) found.push(event.near);
  }
  return { seconds: (performance.now() - started) / 1000, distance: addDistances(found) };
}

function said({ device, name, rank, ...line }: Line): string {
  const { differing, elements, maxUlp } = line.distance;
  return (
    `${device}${name ? ` (${name})` : ""}, rank ${rank}: ${line.device_gbps.toFixed(3)} GB/s, ` +
    `the kernels ${line.kernels_gbps.toFixed(3)} GB/s: ${line.ratio.toFixed(2)} times their time, ` +
    `${line.ratio_checked.toFixed(2)} with the check; ${differing} of ${elements} elements differ, by at most ${maxUlp} ulp`
  );
}
