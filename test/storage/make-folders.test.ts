import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeFolders } from "../../src/storage/make-folders.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-folders-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("making folders", () => {
  it("makes those above too, and says which one was the first", async () => {
    expect(await makeFolders(join(folder, "a/b/c"))).toBe(join(folder, "a"));
    expect((await stat(join(folder, "a/b/c"))).isDirectory()).toBe(true);
    expect(await makeFolders(join(folder, "a/b/d"))).toBe(join(folder, "a/b/d"));
  });

  it("leaves what is there as it is", async () => {
    expect(await makeFolders(folder)).toBeNull();
  });

  it("is refused below a file, and in a file's place", async () => {
    await writeFile(join(folder, "file"), "");
    await expect(makeFolders(join(folder, "file/x"))).rejects.toMatchObject({ code: "ENOTDIR" });
    await expect(makeFolders(join(folder, "file"))).rejects.toMatchObject({ code: "EEXIST" });
  });

  it("ends where a folder exists but takes no others", async () => {
    // Of Linux; elsewhere there is no /proc at all, and it cannot be made either.
    await expect(makeFolders("/proc/graftwork/report")).rejects.toThrow();
  });
});
