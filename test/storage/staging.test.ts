import { mkdir, mkdtemp, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FileFacts } from "../../src/core/checkpoint.ts";
import { stampFile } from "../../src/storage/file.ts";
import { publishFolder, requireUnchanged } from "../../src/storage/staging.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-staging-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("a file that was recorded", () => {
  let path: string;
  let files: FileFacts[];
  beforeEach(async () => {
    path = join(folder, "model.safetensors");
    await writeFile(path, "as recorded");
    const { size, ...stamp } = await stampFile(path);
    files = [{ path: "model.safetensors", size, role: "WEIGHTS", digest: null, stamp }];
  });

  /** Gives a file the times of the recorded one, so that only what the test changes can tell. */
  async function disguise(other: string): Promise<void> {
    const { atime } = await stat(path);
    await utimes(other, atime, Number(files[0]!.stamp!.mtimeNs) / 1e9);
    const { mtimeNs } = await stampFile(other);
    files = [{ ...files[0]!, stamp: { ...files[0]!.stamp!, mtimeNs } }];
  }

  it("is accepted while it is the same", async () => {
    await expect(requireUnchanged(folder, files)).resolves.toBeUndefined();
  });

  it("is refused when its size differs", async () => {
    await writeFile(path, "longer than recorded");
    await expect(requireUnchanged(folder, files)).rejects.toThrow("its size was 11 and is 20");
  });

  it("is refused when it was written to, with the same size", async () => {
    await writeFile(path, "AS RECORDED");
    await utimes(path, new Date(), new Date(Date.now() + 5000));
    await expect(requireUnchanged(folder, files)).rejects.toMatchObject({
      code: "INPUT_CHANGED",
      message: expect.stringContaining("written to since"),
    });
  });

  it("is refused when another file of the same size and time took its place", async () => {
    const other = join(folder, "other");
    await writeFile(other, "as Recorded");
    await disguise(other);
    await rename(other, path);
    await expect(requireUnchanged(folder, files)).rejects.toThrow("replaced by another file");
  });
});

describe("publishing", () => {
  it("refuses a name that exists, even as an empty folder, and keeps what is there", async () => {
    const staging = join(folder, ".staging");
    const output = join(folder, "output");
    await mkdir(staging);
    await mkdir(output);
    await expect(publishFolder(staging, output)).rejects.toMatchObject({ code: "OUTPUT_EXISTS" });
    expect((await stat(output)).isDirectory()).toBe(true);
    expect((await stat(staging)).isDirectory()).toBe(true);
  });
});
