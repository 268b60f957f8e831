import { createHash } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import { finish } from "../../src/engine/digest.ts";
import type { EngineEvent, EngineOptions } from "../../src/engine/events.ts";
import { localMergeInput, planLocal, prepareVerify } from "../../src/engine/local.ts";
import { type MergeSummary, runMerge } from "../../src/engine/merge.ts";
import { runVerify } from "../../src/engine/verify.ts";
import { generateCheckpoint } from "../support/checkpoints.ts";
import { readTensors } from "../support/tensor-files.ts";

let folder: string;
let cache: string;
/** Four layers in four shards, of which the adapter changes the first and nothing else. */
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-shards-"));
  cache = join(folder, "cache");
  await generateCheckpoint(folder, { layers: 4, hidden: 64, rank: 4, shards: 4, adapted: 1 });
  // Files that changed a moment ago are not trusted yet.
  await new Promise((resolve) => setTimeout(resolve, 80));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const shard = (i: number) => `model-0000${i}-of-00004.safetensors`;
const base = (file: string) => join(folder, "base", file);
const out = (name: string, file: string) => join(folder, name, file);

interface Wanted {
  readonly options?: Partial<EngineOptions>;
  readonly immutable?: boolean;
  readonly during?: (event: EngineEvent) => Promise<void>;
}

async function merge(name: string, { options = {}, immutable = false, during }: Wanted = {}) {
  const engine = { threads: 2, ...options };
  const choices = { weights: [1], tokenizer: null };
  const request = { base: join(folder, "base"), adapter: join(folder, "adapter"), choices };
  const planned = await finish(planLocal(request, engine));
  const input = await localMergeInput(request, planned, join(folder, name));
  const work = runMerge({ ...input, base: { ...input.base, immutable } }, engine);
  let step = await work.next();
  for (; !step.done; step = await work.next()) await during?.(step.value);
  return step.value;
}

const untouchedDetail = ({ report }: MergeSummary) =>
  report.checks.find(({ name }) => name === "untouched tensors are identical")?.detail;

async function digestsOnDisk(name: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const file of (await readdir(join(folder, name))).filter((path) => path.endsWith(".safetensors"))) {
    for (const [tensor, { bytes }] of await readTensors(out(name, file))) {
      digests[tensor] = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    }
  }
  return digests;
}

const recorded = ({ facts }: MergeSummary) =>
  Object.fromEntries(allTensors(facts).map(({ name, digest }) => [name, digest]));

async function verdict(name: string) {
  const options = { threads: 2, cache };
  const input = await finish(prepareVerify({ merged: join(folder, name) }, options));
  return finish(runVerify(input, options));
}

describe("shards that an adapter leaves alone", () => {
  it("are copied whole, and their tensors are read for their digests at first", async () => {
    const summary = await merge("first");
    for (const i of [2, 3, 4])
      expect(await readFile(out("first", shard(i)))).toEqual(await readFile(base(shard(i))));
    expect(untouchedDetail(summary)).toBe("3 tensors by sha256");
    expect(await digestsOnDisk("first")).toEqual(recorded(summary));
    expect((await stat(out("first", shard(2)))).ino).not.toBe((await stat(base(shard(2)))).ino);
  });

  it("are not read again by the next merge on the same base, whose result is the same", async () => {
    const first = await merge("first", { options: { cache } });
    const second = await merge("second", { options: { cache } });
    expect(untouchedDetail(first)).toBe("3 tensors by sha256");
    expect(untouchedDetail(second)).toBe(
      "0 tensors by sha256, 3 copied as they are from files that did not change since they were digested",
    );
    expect(second.digests).toEqual(first.digests);
    expect(second.recipeDigest).toBe(first.recipeDigest);
    expect(await digestsOnDisk("second")).toEqual(recorded(second));
  });

  it("are read again when their bytes changed behind a restored modification time", async () => {
    const first = await merge("first", { options: { cache } });
    const { atime, mtime } = await stat(base(shard(3)));
    const bytes = await readFile(base(shard(3)));
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(base(shard(3)), bytes);
    await utimes(base(shard(3)), atime, mtime);
    const second = await merge("second", { options: { cache } });
    expect(untouchedDetail(second)).toContain("1 tensors by sha256, 2 copied");
    expect(second.recipe.base.version).not.toBe(first.recipe.base.version);
    expect(await digestsOnDisk("second")).toEqual(recorded(second));
  });

  it("are read again where what is remembered was damaged", async () => {
    await merge("first", { options: { cache } });
    for (const name of await readdir(cache)) await truncate(join(cache, name), 40);
    const second = await merge("second", { options: { cache } });
    expect(untouchedDetail(second)).toBe("3 tensors by sha256");
  });

  it("are read by verify, whatever is remembered: a false memory is found", async () => {
    await merge("first", { options: { cache } });
    for (const name of await readdir(cache)) {
      const entry = JSON.parse(await readFile(join(cache, name), "utf8"));
      if (entry.path !== base(shard(4))) continue;
      entry.tensors[0].digest = `sha256:${"0".repeat(64)}`;
      await writeFile(join(cache, name), JSON.stringify(entry));
    }
    expect((await verdict("first")).verdict).toBe("IDENTICAL");
    await merge("wrong", { options: { cache } });
    const { verdict: found, differences } = await verdict("wrong");
    expect(found).toBe("DIFFERENT");
    expect(differences).toContainEqual(
      expect.objectContaining({ name: "model.layers.3.self_attn.q_proj.weight", what: "stored" }),
    );
  });

  it("are linked where the base is a folder that nobody writes to any more", async () => {
    await merge("linked", { immutable: true });
    const inode = async (path: string) => (await stat(path)).ino;
    expect(await inode(out("linked", shard(2)))).toBe(await inode(base(shard(2))));
    expect(await inode(out("linked", shard(1)))).not.toBe(await inode(base(shard(1))));
  });

  it("may be read-only in the base, as downloads often are", async () => {
    for (const i of [1, 2, 3, 4]) await chmod(base(shard(i)), 0o444);
    const summary = await merge("first");
    expect(await digestsOnDisk("first")).toEqual(recorded(summary));
  });
});

describe("a shard of which a part changes", () => {
  it("is copied and overwritten there, with the bytes that writing it anew gives", async () => {
    await rm(join(folder, "base"), { recursive: true });
    await generateCheckpoint(folder, { layers: 4, hidden: 64, rank: 4, shards: 2, adapted: 1 });
    const summary = await merge("part");
    expect(await digestsOnDisk("part")).toEqual(recorded(summary));
    const file = "model-00001-of-00002.safetensors";
    const [before, after] = [await readTensors(base(file)), await readTensors(out("part", file))];
    const same = [...before].map(([name, { bytes }]) => bytes.equals(after.get(name)!.bytes));
    expect(same).toEqual([false, true]);
    expect((await verdict("part")).verdict).toBe("IDENTICAL");
  });
});

describe("a base that is written to while it is merged", () => {
  it("is refused, and nothing is left", async () => {
    let spoilt = false;
    const during = async (event: EngineEvent) => {
      if (event.type !== "progress" || spoilt) return;
      spoilt = true;
      await utimes(base(shard(2)), new Date(), new Date());
    };
    await expect(merge("changed", { options: { cache }, during })).rejects.toMatchObject({
      code: "INPUT_CHANGED",
    });
    expect(spoilt).toBe(true);
    expect((await readdir(folder)).sort()).toEqual(["adapter", "base"]);
  });
});
