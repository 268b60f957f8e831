import { execFileSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { cli, startCli } from "../support/cli.ts";
import { addHole, readTensors, writeRaw, writeTensors } from "../support/tensor-files.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");
const DEEP = `${"[".repeat(200_000)}1${"]".repeat(200_000)}`;

let temporary = await mkdtemp(join(tmpdir(), "graftwork-hostile-"));
const top = temporary;
afterAll(() => rm(top, { recursive: true, force: true }));

let base: string;
let adapter: string;
beforeEach(async () => {
  temporary = await mkdtemp(join(top, "case-"));
  base = join(temporary, "base");
  adapter = join(temporary, "adapter");
  await cp(join(FIXTURES, "models/llama-bf16"), base, { recursive: true });
  await cp(join(FIXTURES, "merge/llama-qv-r8/adapter"), adapter, { recursive: true });
});

const merge = (out: string) => ["merge", "--base", base, "--adapter", adapter, "--out", out, "--json"];

async function editJson(path: string, change: Record<string, unknown>): Promise<void> {
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...change }));
}

const prepend = async (path: string, field: string) =>
  writeFile(path, (await readFile(path, "utf8")).replace("{", `{${field},`));

/** One line on stderr with the code, one document on stdout, exit code 1, nothing new beside the inputs. */
async function expectRefused(args: readonly string[], code: string, says: RegExp): Promise<void> {
  const before = (await readdir(temporary)).sort();
  const { code: exit, stdout, stderr } = await cli(...args);
  expect(stderr).toMatch(/^graftwork: [^\n]*\n$/);
  expect(stderr).toContain(`graftwork: ${code}: `);
  expect(stderr).toMatch(says);
  expect(stderr.length).toBeLessThan(2_000);
  expect(JSON.parse(stdout).error.code).toBe(code);
  expect(exit).toBe(1);
  expect((await readdir(temporary)).sort()).toEqual(before);
}

describe("an adapter_config.json with values of another type is refused, not guessed:", () => {
  it.each([
    ["use_rslora as 1, which Python takes for true", { use_rslora: 1 }, /use_rslora must be true or false/],
    ["use_rslora as text", { use_rslora: "false" }, /use_rslora must be true or false/],
    ["r as text", { r: "8" }, /r must be a finite number, found "8"/],
    ["r as null", { r: null }, /r must be a finite number, found null/],
    ["lora_alpha as null", { lora_alpha: null }, /lora_alpha must be a finite number/],
    ["target_modules as numbers", { target_modules: [1, 2] }, /target_modules must be a string or/],
    ["target_modules as false", { target_modules: false }, /target_modules must be a string or/],
    ["layers_to_transform as text", { layers_to_transform: "0" }, /layers_to_transform must be/],
  ])("%s", async (_, change, says) => {
    await editJson(join(adapter, "adapter_config.json"), change);
    await expectRefused(merge(join(temporary, "out")), "BAD_ADAPTER_CONFIG", says);
  });

  it("lora_alpha beyond every float", async () => {
    const path = join(adapter, "adapter_config.json");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace(/"lora_alpha": *[\d.]+/, '"lora_alpha": 1e999'));
    await expectRefused(merge(join(temporary, "out")), "BAD_ADAPTER_CONFIG", /found Infinity/);
  });

  it("an empty list of targets, which targets nothing that the file holds", async () => {
    await editJson(join(adapter, "adapter_config.json"), { target_modules: [] });
    await expectRefused(merge(join(temporary, "out")), "ORPHAN_TENSOR", /does not target module/);
  });
});

describe("files made to break the reader are refused in one line:", () => {
  const out = () => join(temporary, "out");

  it("a config that nests 200,000 levels", async () => {
    await prepend(join(adapter, "adapter_config.json"), `"x":${DEEP}`);
    await expectRefused(merge(out()), "BAD_JSON", /nests deeper/);
  });

  it("a header that nests 200,000 levels", async () => {
    const header = `{"a":{"dtype":${DEEP},"shape":[1],"data_offsets":[0,4]}}`;
    await writeRaw(join(base, "model.safetensors"), header, Buffer.alloc(4));
    await expectRefused(merge(out()), "BAD_FILE", /nests deeper/);
  });

  it("a tensor name of five megabytes", async () => {
    const header = `{"${"a".repeat(5_000_000)}":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}`;
    await writeRaw(join(base, "model.safetensors"), header, Buffer.alloc(4));
    await expectRefused(merge(out()), "BAD_FILE", /name has 5000000 characters/);
  });

  it("a config of three gigabytes", async () => {
    await truncate(join(base, "config.json"), 3e9);
    await expectRefused(merge(out()), "FILE_TOO_LARGE", /config\.json has 3000000000 bytes/);
  });

  it("a config that is a pipe, without waiting for it", async () => {
    await rm(join(base, "config.json"));
    execFileSync("mkfifo", [join(base, "config.json")]);
    await expectRefused(merge(out()), "NOT_A_MODEL", /neither config\.json/);
  });

  it("a record that is a pipe, without waiting for it", async () => {
    execFileSync("mkfifo", [join(base, "graftwork.json")]);
    await expectRefused(["verify", base, "--json"], "NOT_A_FILE", /graftwork\.json is not a regular file/);
  });

  it("a rank that no worker has room for", async () => {
    const rank = 140_000;
    const path = join(adapter, "adapter_model.safetensors");
    const tensors = await readTensors(path);
    for (const [name, tensor] of tensors) {
      tensor.shape = name.includes("lora_A") ? [rank, tensor.shape[1]!] : [tensor.shape[0]!, rank];
      tensor.dtype = "BF16";
      tensor.bytes = Buffer.alloc(2 * tensor.shape[0]! * tensor.shape[1]!, 1);
    }
    await writeTensors(path, tensors);
    await expectRefused(merge(out()), "UNSUPPORTED_RANK", /rank 140000/);
  });

  it("names that would steer a terminal are shown, not sent", async () => {
    await editJson(join(adapter, "adapter_config.json"), { "\x1b[2J": 1 });
    const { stderr } = await cli(...merge(out()));
    expect(stderr).toContain("\\x1b[2J");
    expect(stderr).not.toContain("\x1b");
  });
});

it("symbolic links to the folder itself are no endless walk, and special tensors are carried byte for byte", async () => {
  await symlink(".", join(base, "loop"));
  execFileSync("mkfifo", [join(base, "pipe")]);
  const path = join(base, "model.safetensors");
  const tensors = await readTensors(path);
  const more = {
    wide: ["F64", [2], 16],
    long: ["I64", [], 8],
    none: ["F32", [0, 5], 0],
    one: ["BF16", [], 2],
  } as const;
  for (const [name, [dtype, shape, size]] of Object.entries(more)) {
    tensors.set(name, { dtype, shape: [...shape], bytes: Buffer.alloc(size, 7) });
  }
  await writeTensors(path, tensors);
  const out = join(temporary, "out");
  expect((await cli(...merge(out))).code).toBe(0);
  const merged = await readTensors(join(out, "model.safetensors"));
  for (const name of Object.keys(more)) {
    const { dtype, shape, bytes } = tensors.get(name)!;
    expect(merged.get(name)).toMatchObject({ dtype, shape });
    expect(merged.get(name)!.bytes.equals(bytes), name).toBe(true);
  }
  expect((await cli("verify", out)).code).toBe(0);
});

describe("an output path", () => {
  it("inside the base or the adapter is refused, through a symbolic link too", async () => {
    await symlink(base, join(temporary, "link"));
    for (const out of [join(base, "merged"), join(adapter, "a/b"), join(temporary, "link/merged")]) {
      await expectRefused(merge(out), "OUTPUT_INSIDE_INPUT", /lies inside/);
    }
    expect(await readdir(base)).not.toContain("merged");
  });

  it("that is a file, an empty folder or a symbolic link that leads nowhere exists", async () => {
    await writeFile(join(temporary, "file"), "");
    await mkdir(join(temporary, "folder"));
    await symlink("nowhere", join(temporary, "dangling"));
    for (const name of ["file", "folder", "dangling"]) {
      await expectRefused(merge(join(temporary, name)), "OUTPUT_EXISTS", /exists already/);
    }
  });

  it("below a file, in a circle of links, or too long is refused in one line", async () => {
    await writeFile(join(temporary, "file"), "");
    await symlink("circle", join(temporary, "circle"));
    for (const name of ["file/x", "file/x/y", "circle/x", "a".repeat(250), "a".repeat(300)]) {
      await expectRefused(merge(join(temporary, name)), "NOT_FOUND", /does not exist/);
    }
  });

  it("beside names that only look alike is written, with the folders above it", async () => {
    const out = join(temporary, "base-merged/deep/out");
    expect((await cli(...merge(out))).code).toBe(0);
    expect(await readdir(join(temporary, "base-merged/deep"))).toEqual(["out"]);
  });
});

describe("a merge killed with kill -9", () => {
  it("shows no output, and the next merge to the same place removes what it left and nothing else", async () => {
    const small = join(temporary, "small");
    await cp(base, small, { recursive: true });
    await addHole(join(base, "model.safetensors"), 1_000_000_000);
    const out = join(temporary, "out");
    const { child, finished } = startCli(...merge(out).slice(0, -1));
    child.stderr!.on("data", (text: string) => {
      if (text.includes("merge: ")) child.kill("SIGKILL");
    });
    await finished;
    const left = (await readdir(temporary)).filter((name) => name.startsWith(".out.graftwork-"));
    expect(left).toHaveLength(1);
    expect(await readdir(temporary)).not.toContain("out");

    // A living process, another machine's, and another output's are none of its business.
    const mine = left[0]!.replace(/-\d+$/, `-${process.pid}`);
    const foreign = `.out.graftwork-00000000-${left[0]!.split("-").at(-1)}`;
    const other = left[0]!.replace(".out.", ".other.");
    for (const name of [mine, foreign, other]) await mkdir(join(temporary, name));
    base = small;
    expect((await cli(...merge(out))).code).toBe(0);
    const after = (await readdir(temporary)).filter((name) => name.includes(".graftwork-"));
    expect(after.sort()).toEqual([foreign, mine, other].sort());
    expect(await readdir(temporary)).toContain(basename(out));
  });
});

describe("verify", () => {
  it("refuses a record whose recipe was edited, and finds edited weights digests and shapes", async () => {
    const out = join(temporary, "out");
    await cli(...merge(out));
    const path = join(out, "graftwork.json");
    const record = JSON.parse(await readFile(path, "utf8"));
    const zeros = `sha256:${"0".repeat(64)}`;

    await editJson(path, { recipe: { ...record.recipe, base: { ...record.recipe.base, version: zeros } } });
    await expectRefused(["verify", out, "--json"], "BAD_RECORD", /recipeDigest/);

    await editJson(path, { recipe: record.recipe, output: { ...record.output, weights: zeros } });
    const weights = await cli("verify", out);
    expect(weights.stdout).toContain("DIFFERENT names, dtypes and shapes: ");
    expect(weights.code).toBe(1);

    await editJson(path, { output: record.output });
    expect((await cli("verify", out)).code).toBe(0);
    const tensors = await readTensors(join(out, "model.safetensors"));
    tensors.get("lm_head.weight")!.shape.reverse();
    await writeTensors(join(out, "model.safetensors"), tensors);
    const shapes = await cli("verify", out);
    expect(shapes.stdout).toContain("DIFFERENT names, dtypes and shapes: ");
    expect(shapes.code).toBe(1);
  });
});

describe("--json", () => {
  it("prints exactly one document for every command line, help and version included", async () => {
    const lines = [
      ["version"],
      ["help"],
      ["help", "merge"],
      ["merge", "--help"],
      [],
      ["melt"],
      ["inspect", "nowhere"],
    ];
    for (const line of lines) {
      const { stdout } = await cli(...line, "--json");
      expect(() => JSON.parse(stdout), line.join(" ")).not.toThrow();
    }
    expect(JSON.parse((await cli("--json", "inspect", base)).stdout).kind).toBe("checkpoint");
  });
});
