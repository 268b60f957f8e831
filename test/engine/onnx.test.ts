import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { OnnxDevice } from "../../src/core/devices.ts";
import {
  add,
  base,
  call,
  concat,
  div,
  type Expr,
  kron,
  lowRankUpdate,
  matmul,
  mul,
  norm,
  over,
  relu,
  repeat,
  reshape,
  round,
  scale,
  setRows,
  slice,
  source,
  sub,
  transpose,
} from "../../src/core/expr.ts";
import { FUNCTIONS } from "../../src/core/functions.ts";
import {
  type DeviceEvent,
  type DevicePoolOptions,
  deviceBytes,
  runOnDevice,
} from "../../src/engine/onnx-pool.ts";
import { placementOf } from "../../src/engine/onnx-tiles.ts";
import type { TensorTask } from "../../src/engine/pool.ts";
import { compare, DeviceTasks } from "../support/device-tasks.ts";
import { requirement, SWIFTSHADER } from "../support/require.ts";

// Whoever names another driver has one; the processes of the devices inherit it.
process.env.VK_DRIVER_FILES ??= SWIFTSHADER;

let folder: string;
let tasks: DeviceTasks;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-onnx-"));
  tasks = new DeviceTasks(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function run(
  device: OnnxDevice,
  list: readonly TensorTask[],
  options: Partial<DevicePoolOptions> = {},
): Promise<DeviceEvent[]> {
  const events: DeviceEvent[] = [];
  for await (const event of runOnDevice(list, { device, ...options })) events.push(event);
  return events;
}

const ROWS = 48;
const COLS = 40;
const RANK = 5;

/** What each kind of adapter makes of a tensor, as expressions of the same few leaves. */
function updates(): Record<string, { expr: Expr; base: ReturnType<typeof base> | null }> {
  const w = tasks.store({ leaf: base("w"), shape: [ROWS, COLS], scale: 0.05 });
  const a = tasks.store({ leaf: source(0, "a"), shape: [RANK, COLS], dtype: "F32" });
  const b = tasks.store({ leaf: source(0, "b"), shape: [ROWS, RANK], dtype: "F32" });
  const embedA = tasks.store({ leaf: source(0, "ea"), shape: [RANK, ROWS], dtype: "F32" });
  const embedB = tasks.store({ leaf: source(0, "eb"), shape: [COLS, RANK], dtype: "F32" });
  const magnitude = tasks.store({ leaf: source(0, "m"), shape: [ROWS, 1], dtype: "F32", scale: 0.3 });
  const across = tasks.store({ leaf: source(0, "m0"), shape: [1, COLS], dtype: "F32", scale: 0.3 });
  const small = tasks.store({ leaf: source(0, "k1"), shape: [6, 4], dtype: "F32" });
  const other = tasks.store({ leaf: source(0, "k2"), shape: [8, 10], dtype: "F32" });
  const token = tasks.store({ leaf: source(0, "t"), shape: [2, COLS], dtype: "F32" });
  const experts = tasks.store({ leaf: base("e"), shape: [3, 16, COLS], scale: 0.05 });
  const bias = tasks.store({ leaf: base("bias"), shape: [ROWS] });
  const shift = tasks.store({ leaf: source(0, "bias"), shape: [ROWS], dtype: "F32" });
  const lora = lowRankUpdate({ base: "w", left: b, right: a, scale: 2, roundFirst: false });
  const changed = add(w, scale(0.5, matmul(b, a)));
  const embedding = add(w, scale(1.5, matmul(transpose(embedA), transpose(embedB))));
  const delta = reshape(matmul(b, a), [3, 16, COLS]);
  return {
    LoRA: { expr: lora, base: w },
    "LoRA rounded before the sum": {
      expr: lowRankUpdate({ base: "w", left: b, right: a, scale: 2, roundFirst: true }),
      base: w,
    },
    DoRA: { expr: mul(div(magnitude, norm(changed, 1, "lanes")), changed), base: w },
    "DoRA of a transposed layer": { expr: mul(div(across, norm(changed, 0, "sequence")), changed), base: w },
    "LoRA of an embedding": { expr: embedding, base: w },
    "an embedding with trained tokens": { expr: setRows(embedding, [3, 40], token), base: w },
    experts: { expr: add(experts, scale(0.5, delta)), base: experts },
    "one expert of several": {
      expr: concat(0, [
        slice(experts, 0, 0, 1),
        add(slice(experts, 0, 1, 2), reshape(slice(matmul(b, a), 0, 0, 16), [1, 16, COLS])),
        slice(experts, 0, 2, 3),
      ]),
      base: experts,
    },
    "LoHa, a Hadamard product": {
      expr: add(w, scale(3, mul(matmul(b, a), matmul(transpose(embedA), transpose(embedB))))),
      base: w,
    },
    "LoKr, a Kronecker product": { expr: add(w, scale(0.7, kron(small, other))), base: w },
    "a factor for each row": { expr: mul(w, magnitude), base: w },
    "a vector": { expr: add(bias, shift), base: bias },
    "what else there is": {
      expr: sub(w, over(3, relu(repeat(slice(mul(b, magnitude), 1, 0, 4, 2), 1, COLS)))),
      base: w,
    },
    "a rounded value in the middle": { expr: add(w, scale(0.5, round(mul(w, magnitude)))), base: w },
  };
}

const DEVICES: [OnnxDevice, boolean][] = [
  ["onnx-cpu", true],
  ["webgpu", requirement("webgpu")],
];

describe.each(DEVICES)("the executor on %s", (device, present) => {
  it.skipIf(!present)("computes every kind of update within one unit in the last place", async () => {
    const list = Object.entries(updates()).map(([name, { expr, base: from }]) =>
      tasks.task(name, expr, { base: from }),
    );
    expect(list.map(placementOf)).toEqual(list.map(() => ({ on: "device" })));
    const events = await run(device, list);
    const written = events.flatMap((event) => (event.type === "tensor" ? [event.name] : []));
    expect(written.sort()).toEqual(list.map(({ name }) => name).sort());
    for (const task of list) {
      const { ulp, share } = compare(task);
      expect(`${task.name}: ${ulp <= 1}`).toBe(`${task.name}: true`);
      expect(share).toBeLessThan(0.05);
    }
  });

  it.skipIf(!present)("computes each storage type, and many tiles of one tensor", async () => {
    const [rows, cols] = device === "webgpu" ? [1100, 1031] : [2600, 1031];
    const list = (["BF16", "F16"] as const).map((dtype) => {
      const w = tasks.store({ leaf: base(dtype), shape: [rows, cols], dtype, scale: 0.05 });
      const a = tasks.store({ leaf: source(0, `a ${dtype}`), shape: [2, cols], dtype: "F32", scale: 0.03 });
      const b = tasks.store({ leaf: source(0, `b ${dtype}`), shape: [rows, 2], dtype: "F32", scale: 0.03 });
      const expr = lowRankUpdate({ base: dtype, left: b, right: a, scale: 1, roundFirst: false });
      return tasks.task(dtype, expr, { base: w, dtype });
    });
    const events = await run(device, list);
    expect(list.map((task) => compare(task).ulp <= 1)).toEqual([true, true]);
    const progress = events.flatMap((event) => (event.type === "progress" ? [event.bytes] : []));
    // Two tiles or more of each tensor.
    expect(progress.length).toBeGreaterThanOrEqual(4);
    expect(progress.at(-1)).toBe(deviceBytes(list));
  });
});

describe("the executor's ends", () => {
  const big = () => {
    const w = tasks.store({ leaf: base("w"), shape: [4000, 2000], scale: 0.05 });
    const a = tasks.store({ leaf: source(0, "a"), shape: [4, 2000], dtype: "F32" });
    const b = tasks.store({ leaf: source(0, "b"), shape: [4000, 4], dtype: "F32" });
    const expr = lowRankUpdate({ base: "w", left: b, right: a, scale: 1, roundFirst: false });
    return tasks.task("w", expr, { base: w });
  };

  it("stops at a signal, and throws its reason", async () => {
    const stop = new AbortController();
    const running = run("onnx-cpu", [big()], { signal: stop.signal });
    setTimeout(() => stop.abort(new Error("enough")), 50);
    await expect(running).rejects.toThrow("enough");
  });

  it("says which file ends early, and when the disk is full", async () => {
    const task = big();
    const cut = { ...task, input: { ...task.input!, offset: statSync(task.input!.path).size - 10 } };
    await expect(run("onnx-cpu", [cut])).rejects.toMatchObject({ code: "BAD_FILE" });
    const full = run("onnx-cpu", [task], { failWritesAfter: 1000 });
    await expect(full).rejects.toMatchObject({ code: "DISK_FULL" });
  });

  it("does not compute where the device is missing", async () => {
    await expect(run("dml", [big()])).rejects.toThrow(/dml/);
  });
});

describe("placement", () => {
  it("leaves what is only moved to the kernels", () => {
    const w = tasks.store({ leaf: base("w"), shape: [4, 4] });
    const t = tasks.store({ leaf: source(0, "t"), shape: [1, 4] });
    expect(placementOf(tasks.task("rows", setRows(w, [1], t), { base: w }))).toEqual({
      on: "cpu",
      why: "moved",
    });
    expect(placementOf(tasks.task("copy", t))).toEqual({ on: "cpu", why: "moved" });
  });

  it("leaves what no device computes to the CPU: empty factors, and functions of the base", () => {
    const w = tasks.store({ leaf: base("w"), shape: [4, 4] });
    const left = tasks.store({ leaf: source(0, "b"), shape: [4, 0] });
    const right = tasks.store({ leaf: source(0, "a"), shape: [0, 4] });
    const empty = lowRankUpdate({ base: "w", left, right, scale: 1, roundFirst: false });
    const what = "an empty factor";
    expect(placementOf(tasks.task("w", empty, { base: w }))).toEqual({ on: "cpu", why: "lacking", what });
    const name = Object.keys(FUNCTIONS).find((known) => FUNCTIONS[known]!.rowwise)!;
    const special = {
      ...tasks.task("w", w, { base: w }),
      program: { expr: add(w, call(name, [w])), leaves: [], numerics: "peft-1" as const },
    };
    expect(placementOf(special)).toEqual({ on: "cpu", why: "lacking", what: `the function ${name}` });
  });

  it("leaves float32 tensors to the CPU: no rounding hides in which order a device sums", () => {
    const w = tasks.store({ leaf: base("w"), shape: [4, 4], dtype: "F32" });
    const task = tasks.task("w", scale(2, w), { base: w, dtype: "F32" });
    expect(placementOf(task)).toEqual({ on: "cpu", why: "float32" });
    expect(placementOf({ ...task, dtype: "BF16" })).toEqual({ on: "device" });
  });
});
