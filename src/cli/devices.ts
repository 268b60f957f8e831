import type { DeviceStatus } from "../core/devices.ts";
import { listDevices } from "../engine/devices.ts";
import type { Outcome } from "./command.ts";
import { bytes, table } from "./format.ts";

/** `devices`: what there is, and what is missing. */
export async function run(): Promise<Outcome> {
  const devices = await listDevices();
  const present = devices.filter(({ available }) => available);
  const missing = devices.filter(({ available }) => !available);
  return {
    document: { devices },
    lines: [
      ...table(present.map(row)),
      ...missing.map(({ device, reason }) => `${device} is not available: ${reason}`),
    ],
  };
}

function row({ device, provider, version, name, memoryBytes }: DeviceStatus): string[] {
  const memory = memoryBytes === null ? "" : `, ${bytes(memoryBytes)} of memory`;
  return [device, `${provider} ${version}`, `${name ?? "of unknown name"}${memory}`];
}
