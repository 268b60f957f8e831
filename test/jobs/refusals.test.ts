import { cp, mkdir, readFile, rm, stat, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rawSafetensors } from "../support/safetensors.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

let graft: Harness;
beforeAll(async () => {
  graft = await startHarness();
  await mkdir(graft.root, { recursive: true });
});
afterAll(() => graft.close());

const BASE = join(DEMO, "base");

/** A copy of the demo base below the allowed root, changed by `spoil`. */
async function spoilt(name: string, spoil: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(graft.root, name);
  await cp(BASE, folder, { recursive: true });
  await spoil(folder);
  return folder;
}

let count = 0;

/** Imports as a model of its own and expects the job to fail without leaving a model or a version. */
async function refusedImport(path: string) {
  count++;
  const job = await graft.import({ name: `refused/model-${count}`, path });
  expect(job.state).toBe("FAILED");
  expect(job.attempt).toBe(1);
  expect(await graft.test.db.model.count({ where: { namespace: { name: "refused" } } })).toBe(0);
  expect(await graft.test.db.file.count({ where: { realPath: { startsWith: path } } })).toBe(0);
  expect(job.events.at(-1)).toMatchObject({ type: "failed", data: job.error });
  return job.error as { code: string; message: string };
}

describe("an import is refused, with nothing left behind, for", () => {
  it("a folder outside the allowed roots", async () => {
    const outside = join(graft.home, "..", "elsewhere");
    await cp(BASE, outside, { recursive: true });
    const error = await refusedImport(outside);
    expect(error.code).toBe("PATH_OUTSIDE_ROOTS");
    expect(error.message).toContain("GRAFTWORK_IMPORT_ROOTS");
  });

  it("a folder inside that is a symbolic link to one outside", async () => {
    const outside = join(graft.home, "..", "behind-a-link");
    await cp(BASE, outside, { recursive: true });
    const link = join(graft.root, "linked");
    await symlink(outside, link);
    const error = await refusedImport(link);
    expect(error.code).toBe("PATH_OUTSIDE_ROOTS");
    expect(error.message).toContain("behind-a-link");
  });

  it("a path that climbs out of a root", async () => {
    await cp(BASE, join(graft.home, "..", "above"), { recursive: true });
    expect((await refusedImport(`${graft.root}/../above`)).code).toBe("PATH_OUTSIDE_ROOTS");
  });

  it("a path outside, in the same words whether something is there or not", async () => {
    const place = join(graft.home, "..");
    await writeFile(join(place, "there"), "");
    await symlink(join(place, "there"), join(place, "alias"));
    const said = async (name: string) =>
      (await refusedImport(join(place, name))).message.replaceAll(name, "…");
    const nothing = await said("not-there");
    expect(nothing).toContain("lies outside");
    expect([await said("there"), await said("alias"), await said("there/below")]).toEqual(
      Array(3).fill(nothing),
    );
  });

  it("a name that is longer than any file's, and links that lead in circles", async () => {
    expect((await refusedImport(join(graft.root, "n".repeat(300)))).code).toBe("NOT_FOUND");
    await symlink(join(graft.root, "circle"), join(graft.root, "circle"));
    expect((await refusedImport(join(graft.root, "circle"))).code).toBe("NOT_FOUND");
  });

  it("a single file that is a symbolic link to one outside", async () => {
    const secret = join(graft.home, "..", "secret.json");
    await writeFile(secret, "{}");
    const folder = await spoilt("file-link", async (at) => {
      await rm(join(at, "generation_config.json"));
      await symlink(secret, join(at, "generation_config.json"));
    });
    const error = await refusedImport(folder);
    expect(error.code).toBe("PATH_OUTSIDE_ROOTS");
    expect(error.message).toContain("generation_config.json");
  });

  it("a truncated safetensors file", async () => {
    const folder = await spoilt("truncated", async (at) => {
      const file = join(at, "model.safetensors");
      await truncate(file, (await readFile(file)).length - 1000);
    });
    const error = await refusedImport(folder);
    expect(error.code).toBe("BAD_FILE");
    expect(error.message).toContain("model.safetensors");
  });

  it("a header that is longer than its file", async () => {
    const folder = await spoilt("long-header", (at) =>
      writeFile(join(at, "model.safetensors"), rawSafetensors("{}", 8, 9_999_999n)),
    );
    expect((await refusedImport(folder)).code).toBe("BAD_FILE");
  });

  it("an index that names a missing shard", async () => {
    const folder = await spoilt("missing-shard", async (at) => {
      await rm(join(at, "model.safetensors"));
      const map = { "model.embed_tokens.weight": "model-00001-of-00002.safetensors" };
      await writeFile(join(at, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
    });
    const error = await refusedImport(folder);
    expect(error.code).toBe("MISSING_SHARD");
    expect(error.message).toContain("model-00001-of-00002.safetensors");
  });

  it("a folder that does not exist, and one without a model", async () => {
    expect((await refusedImport(join(graft.root, "nowhere"))).code).toBe("NOT_FOUND");
    await mkdir(join(graft.root, "empty"));
    expect((await refusedImport(join(graft.root, "empty"))).code).toBe("NOT_A_MODEL");
  });
});

describe("a merge", () => {
  it("is refused when a file of the base was touched after its import, naming the file", async () => {
    const folder = await spoilt("touched", async () => {});
    await graft.import({ name: "touched/base", path: folder });
    await graft.import({
      name: "touched/adapter",
      path: join(DEMO, "adapters/sentiment"),
      base: "touched/base",
    });
    const file = join(folder, "model.safetensors");
    await utimes(file, new Date(), new Date());
    const job = await graft.merge("touched/base", "touched/adapter", "touched/merged");
    expect(job.state).toBe("FAILED");
    expect(job.error).toMatchObject({ code: "INPUT_CHANGED" });
    expect((job.error as { message: string }).message).toContain(file);
    expect(await graft.merged()).toEqual([]);
    expect(await graft.test.db.version.count({ where: { origin: "MERGED" } })).toBe(0);
  });

  it("is refused when the base was exchanged behind its time stamps, by the digest of what was read", async () => {
    const folder = await spoilt("exchanged", async () => {});
    await graft.import({ name: "exchanged/base", path: folder });
    await graft.import({ name: "exchanged/adapter", path: join(DEMO, "adapters/sentiment") });
    const file = join(folder, "model.safetensors");
    const bytes = await readFile(file);
    bytes[bytes.length - 3]! ^= 0xff;
    await writeFile(file, bytes);
    // As if the writer had restored the time stamps: to the nanosecond, which utimes cannot.
    const { mtimeNs } = await stat(file, { bigint: true });
    await graft.test.db.file.updateMany({ where: { realPath: file }, data: { mtimeNs: String(mtimeNs) } });
    const job = await graft.merge("exchanged/base", "exchanged/adapter", "exchanged/merged");
    expect(job.state).toBe("FAILED");
    expect(job.error).toMatchObject({ code: "INPUT_CHANGED" });
    expect(await graft.merged()).toEqual([]);
  });
});
