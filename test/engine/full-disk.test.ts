import { statfsSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";
import { cli, DEMO } from "../support/cli.ts";
import { requirement } from "../support/require.ts";
import { SmallDisk } from "../support/tmpfs.ts";

const BASE = join(DEMO, "base");
const ADAPTER = join(DEMO, "adapters/sentiment");
const options = { threads: 2 };

/** A planned merge of the demo into `<folder>/out`. */
async function prepare(folder: string) {
  const request = { base: BASE, adapter: ADAPTER, choices: { weights: [1], tokenizer: null } };
  return localMergeInput(request, await finish(planLocal(request, options)), join(folder, "out"));
}

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-full-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("a disk that is too small", () => {
  it.each([1, 700_000, 2_000_000])(
    "fails with DISK_FULL after %i bytes a thread and leaves nothing",
    async (limit) => {
      const merge = runMerge(await prepare(folder), { ...options, failWritesAfter: limit });
      await expect(finish(merge)).rejects.toMatchObject({
        code: "DISK_FULL",
        message: expect.stringMatching(/model\.safetensors could not be written: the disk is full/),
      });
      expect(await readdir(folder)).toEqual([]);
    },
  );

  it("takes away again the folders above the output that it had to make, but not what is in them by others", async () => {
    const input = await prepare(join(folder, "new/deep"));
    await expect(finish(runMerge(input, { ...options, failWritesAfter: 1 }))).rejects.toMatchObject({
      code: "DISK_FULL",
    });
    expect(await readdir(folder)).toEqual([]);

    const merge = runMerge(input, { ...options, failWritesAfter: 1 });
    const run = async () => {
      for await (const event of merge) {
        if (event.type === "stage") writeFileSync(join(folder, "new/others"), "");
      }
    };
    await expect(run()).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(await readdir(join(folder, "new"))).toEqual(["others"]);
  });

  it("is refused with NOT_ENOUGH_DISK before anything is written", async () => {
    const input = await prepare(folder);
    const merge = runMerge({ ...input, plan: { ...input.plan, bytesToWrite: 1e17 } }, options);
    const stages: string[] = [];
    const run = async () => {
      for await (const event of merge) stages.push(event.type);
    };
    await expect(run()).rejects.toMatchObject({
      code: "NOT_ENOUGH_DISK",
      details: { needed: 1e17 + 64_000_000 },
    });
    expect(stages).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe.skipIf(!requirement("tmpfs"))("a real small disk", () => {
  it("is refused by the command with NOT_ENOUGH_DISK", async () => {
    using disk = new SmallDisk(32);
    const { code, stderr } = await cli(
      ...["merge", "--base", BASE, "--adapter", ADAPTER, "--out", join(disk.folder, "out")],
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/graftwork: NOT_ENOUGH_DISK: .*free/);
    expect(await readdir(disk.folder)).toEqual([]);
  });

  // The weights take 5.52 MB; then follow the small files.
  it.each([
    { left: 1_000_000, when: "in the middle of the weights" },
    { left: 5_560_000, when: "in the tokenizer, after the weights" },
  ])("that fills up $when ends with DISK_FULL and leaves nothing", async ({ left }) => {
    using disk = new SmallDisk(100);
    const merge = runMerge(await prepare(disk.folder), options);
    const run = async () => {
      for await (const event of merge) {
        // Somebody else takes the room that was free when the merge started.
        if (event.type === "stage" && event.stage === "merge") fill(disk.folder, left);
      }
    };
    await expect(run()).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(await readdir(disk.folder)).toEqual(["others"]);
  });
});

function fill(disk: string, left: number): void {
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(join(disk, "others"), Buffer.alloc(bavail * bsize - left));
}
