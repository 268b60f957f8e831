import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkpointDigests } from "../../src/core/checkpoint.ts";
import { digestCheckpoint, finish } from "../../src/engine/digest.ts";
import { readCheckpoint } from "../../src/storage/checkpoint.ts";
import { safetensorsFile } from "../support/safetensors.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-checkpoint-"));
  await put("config.json", '{"model_type":"llama"}');
  await put("model.safetensors", safetensorsFile([{ name: "w", dtype: "F32", shape: [4] }]));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const put = (path: string, content: string | Uint8Array) => writeFile(join(folder, path), content);
const read = (roots: string[] | null = null) => readCheckpoint(folder, { roots });

async function versionDigest() {
  return checkpointDigests(await finish(digestCheckpoint({ folder, facts: await read() }, { threads: 1 })))
    .version;
}

describe("a model folder", () => {
  it("is told apart by what its files are for", async () => {
    await put("tokenizer.json", "{}");
    await put("README.md", "card");
    await put("graftwork.json", "{}");
    await mkdir(join(folder, "chat_templates"));
    await put("chat_templates/tool.jinja", "x");
    const { files, kind, hasCode } = await read();
    expect(files.map(({ path, role }) => [path, role])).toEqual([
      ["README.md", "CARRIED"],
      ["chat_templates/tool.jinja", "TOKENIZER"],
      ["config.json", "CONFIG"],
      ["graftwork.json", "CARRIED"],
      ["model.safetensors", "WEIGHTS"],
      ["tokenizer.json", "TOKENIZER"],
    ]);
    expect([kind, hasCode]).toEqual(["checkpoint", false]);
  });

  it("that carries code is flagged, by a Python file or by auto_map, and its code is part of its digest", async () => {
    const plain = await versionDigest();
    await put("modeling_x.py", "raise SystemExit('this must never run')");
    expect(await read()).toMatchObject({ hasCode: true });
    const withCode = await versionDigest();
    expect(withCode).not.toBe(plain);
    await put("modeling_x.py", "raise SystemExit('changed')");
    expect(await versionDigest()).not.toBe(withCode);
    await rm(join(folder, "modeling_x.py"));
    await put("config.json", '{"model_type":"x","auto_map":{"AutoModel":"modeling_x.X"}}');
    expect(await read()).toMatchObject({ hasCode: true });
  });

  it("keeps its digest when cards, logs and records change", async () => {
    const digest = await versionDigest();
    await put("README.md", "another card");
    await put("training_log.json", "[]");
    await put("graftwork.json", "{}");
    expect(await versionDigest()).toBe(digest);
  });

  it("as the Hugging Face cache lays it out, all links, is read when its blobs lie under a root", async () => {
    const snapshot = join(folder, "snapshots", "abc");
    const blobs = join(folder, "blobs");
    await mkdir(snapshot, { recursive: true });
    await mkdir(blobs);
    for (const [name, path] of [
      ["1", "config.json"],
      ["2", "model.safetensors"],
    ] as const) {
      await writeFile(join(blobs, name), path === "config.json" ? "{}" : safetensorsFile([]));
      await symlink(join("..", "..", "blobs", name), join(snapshot, path));
    }
    const facts = await readCheckpoint(snapshot, { roots: [folder] });
    expect(facts.files.map((file) => file.stamp?.realPath)).toEqual([join(blobs, "1"), join(blobs, "2")]);
    await expect(readCheckpoint(snapshot, { roots: [snapshot] })).rejects.toMatchObject({
      code: "PATH_OUTSIDE_ROOTS",
    });
  });

  it("with a pickle instead of safetensors is refused with what to do", async () => {
    await rm(join(folder, "model.safetensors"));
    await put("pytorch_model.bin", "x");
    await expect(read()).rejects.toMatchObject({
      code: "NO_WEIGHTS",
      message: expect.stringContaining("pytorch_model.bin"),
    });
  });
});
