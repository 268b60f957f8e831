import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEVICES, type DeviceName, type OnnxDevice } from "../../src/core/devices.ts";
import { AppError } from "../../src/core/errors.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";

const CASES = join(import.meta.dirname, "../fixtures/merge");
const options = { threads: 1 };

/**
 * Every golden case on a device: within one unit in the last place of the canonical value, or refused as unsuitable
 * (float32 storage, functions without a graph, copies). `npm test` takes one of each form.
 */
export async function run([device = "onnx-cpu"]: readonly string[]): Promise<void> {
  if (device === "cpu" || !DEVICES.includes(device as DeviceName)) {
    console.error(`Name a device other than cpu: ${DEVICES.slice(1).join(", ")}.`);
    process.exitCode = 1;
    return;
  }
  const temporary = await mkdtemp(join(tmpdir(), "graftwork-golden-device-"));
  try {
    for (const entry of await readdir(CASES, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const golden = JSON.parse(await readFile(join(CASES, entry.name, "case.json"), "utf8"));
      if (golden.want.verdict === "refuse") continue;
      const line = await outcome(golden, { name: entry.name, temporary, device: device as OnnxDevice });
      console.log(`${entry.name.padEnd(30)} ${line}`);
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

interface Case {
  readonly base: string;
  readonly adapter: string;
}

interface Place {
  readonly name: string;
  readonly temporary: string;
  readonly device: OnnxDevice;
}

async function outcome({ base, adapter }: Case, { name, temporary, device }: Place): Promise<string> {
  const folder = join(CASES, name);
  const choices = { weights: [1], tokenizer: null };
  const request = { base: join(folder, base), adapter: join(folder, adapter), choices };
  try {
    const planned = await finish(planLocal(request, options));
    const input = await localMergeInput(request, planned, join(temporary, name));
    const { device: use } = await finish(runMerge({ ...input, device }, options));
    const { tensors, onCpu, differing, elements, maxUlp } = use!;
    return `${tensors} tensors (${onCpu} on the CPU), ${differing} of ${elements} elements differ, at most ${maxUlp.toFixed(3)} ulp`;
  } catch (error) {
    if (error instanceof AppError && error.code === "DEVICE_UNSUITABLE") return "unsuitable";
    process.exitCode = 1;
    return `FAILED: ${error instanceof Error ? error.message : String(error)}`;
  }
}
