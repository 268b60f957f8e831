import type { DeviceUse as UseShape } from "../core/devices.ts";
import { aliveAt } from "../registry/devices.ts";
import { builder } from "./builder.ts";
import { Device } from "./enums.ts";

/** Far more than the devices of all workers; a list that has no pages needs an end. */
const MOST = 600;

export const DeviceUse = builder.objectRef<UseShape>("DeviceUse").implement({
  description: "What a device computed of a merge, compared with the canonical value element by element.",
  fields: (t) => ({
    provider: t.exposeString("provider", { description: "What ran the merge on it." }),
    name: t.exposeString("name", {
      nullable: true,
      description: "What the device calls itself; null where nothing tells.",
    }),
    version: t.exposeString("version", { description: "Version of the provider." }),
    tensors: t.exposeInt("tensors", { description: "Tensors that it computed." }),
    onCpu: t.exposeInt("onCpu", {
      description: "Changed tensors that it could not compute, and that have their canonical value.",
    }),
    elements: t.field({
      type: "BigInt",
      description: "Elements that it computed.",
      resolve: ({ elements }) => elements,
    }),
    differing: t.field({
      type: "BigInt",
      description: "Elements whose stored bits differ from the canonical ones.",
      resolve: ({ differing }) => differing,
    }),
    maxUlp: t.exposeFloat("maxUlp", {
      description:
        "The largest difference, in units in the last place at the larger of |W| and |W′|; at most 1.",
    }),
  }),
});

const WorkerDevice = builder.prismaObject("WorkerDevice", {
  description: "A device of a worker, as it was found when the worker started.",
  fields: (t) => ({
    device: t.expose("device", { type: Device, description: "Which." }),
    provider: t.exposeString("provider", { description: "What runs merges on it." }),
    name: t.exposeString("name", {
      nullable: true,
      description: "What it calls itself; null where nothing tells.",
    }),
    memoryBytes: t.expose("memoryBytes", {
      type: "BigInt",
      nullable: true,
      description: "Bytes of memory: its own, or the machine's for a processor; null where nothing tells.",
    }),
    version: t.exposeString("version", {
      nullable: true,
      description: "Version of the provider; null where it is not installed.",
    }),
    available: t.exposeBoolean("available", { description: "Whether it computes." }),
    reason: t.exposeString("reason", {
      nullable: true,
      description: "What is missing and how to get it; null where it is available.",
    }),
    worker: t.string({
      description: "The worker that has it: host and process id.",
      select: { worker: { select: { name: true } } },
      resolve: ({ worker }) => worker.name,
    }),
    seenAt: t.field({
      type: "DateTime",
      description: "When that worker last said that it is alive.",
      select: { worker: { select: { seenAt: true } } },
      resolve: ({ worker }) => worker.seenAt,
    }),
  }),
});

builder.queryFields((t) => ({
  devices: t.prismaField({
    type: [WorkerDevice],
    description: "What the workers that are alive can merge on, and what they lack; nothing for strangers.",
    resolve: (query, _, __, { db, viewer, now }) =>
      viewer.accountId === null
        ? []
        : db.workerDevice.findMany({
            ...query,
            where: { worker: aliveAt(now()) },
            orderBy: [{ worker: { name: "asc" } }, { device: "asc" }],
            take: MOST,
          }),
  }),
}));
