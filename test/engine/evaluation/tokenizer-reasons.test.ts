import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { MergePlan } from "../../../src/core/plan.ts";
import { chooseTokenizer } from "../../../src/core/tokenizer.ts";
import { recipeTokenizer, tokenizerReasons } from "../../../src/engine/evaluation/tokenizer-reasons.ts";
import type { Located } from "../../../src/engine/events.ts";
import { readModelFolder } from "../../../src/storage/model-folder.ts";
import { DEMO_BASE, TOKENIZERS } from "../../support/tokenizer-fixtures.ts";

const DEMO = join(DEMO_BASE, "..");
let temporary: string;
beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-reasons-"));
});
afterEach(() => rm(temporary, { recursive: true, force: true }));

const locate = (folder: string): Promise<Located> => readModelFolder(folder, { roots: null });

async function inputs(candidate: Located | null) {
  const base = await locate(DEMO_BASE);
  const adapter = await locate(join(DEMO, "adapters/sentiment"));
  return { base, sources: [adapter], candidate };
}

type Inputs = Awaited<ReturnType<typeof inputs>>;

/** What of the plans is asked. */
function plansOf({ base, sources }: Inputs, wanted: "base" | "adapter" | null = null): MergePlan[] {
  return sources.map(({ facts }) => ({ tokenizer: chooseTokenizer(base.facts, facts, wanted) }) as MergePlan);
}

async function judged(candidate: Located | null) {
  const input = await inputs(candidate);
  return tokenizerReasons(input, plansOf(input));
}

/** The demo base under another roof, changed. */
async function copyOfBase(change: (folder: string) => Promise<unknown>): Promise<Located> {
  const folder = join(temporary, "merged");
  await cp(DEMO_BASE, folder, { recursive: true });
  await change(folder);
  return locate(folder);
}

async function edit(path: string, change: (text: string) => string): Promise<void> {
  await writeFile(path, change(await readFile(path, "utf8")));
}

describe("the tokenizer of a candidate", () => {
  it("passes where it is the recipe's, whatever its bytes", async () => {
    const candidate = await copyOfBase((folder) =>
      edit(join(folder, "tokenizer.json"), (text) => JSON.stringify(JSON.parse(text))),
    );
    const { reasons, checks } = await judged(candidate);
    expect(reasons).toEqual([]);
    expect(checks).toMatchObject([{ level: 0, name: "tokenizer", passed: true }]);
  });

  it("passes for what the recipe would write, and for a checkpoint without one, which the check says", async () => {
    expect((await judged(null)).checks[0]).toMatchObject({ passed: true });
    const bare = await locate(join(DEMO, "expected/sentiment"));
    const { reasons, checks } = await judged(bare);
    expect(reasons).toEqual([]);
    expect(checks[0]!.detail).toContain("ships no tokenizer");
  });

  it("fails by name where two tokens changed places", async () => {
    const candidate = await copyOfBase((folder) =>
      edit(join(folder, "tokenizer.json"), (text) => {
        const tokenizer = JSON.parse(text);
        const { vocab } = tokenizer.model;
        [vocab.a, vocab.b] = [vocab.b, vocab.a];
        return JSON.stringify(tokenizer);
      }),
    );
    const { reasons, checks } = await judged(candidate);
    expect(reasons).toMatchObject([
      { code: "TOKENIZER_DIFFERS", subject: "tokenizer.json: model.vocab", level: 0 },
    ]);
    expect(checks).toMatchObject([{ passed: false, detail: reasons[0]!.message }]);
  });

  it("fails where it lost tokenizer.json, or has one that cannot be read", async () => {
    const lost = await copyOfBase((folder) => rm(join(folder, "tokenizer.json")));
    expect((await judged(lost)).reasons[0]!.message).toContain("it is missing");
    await rm(lost.folder, { recursive: true });
    // A folder is read before its tokenizer is: what breaks in between must not be lost.
    const broken = await copyOfBase(async () => {});
    await writeFile(join(broken.folder, "tokenizer_config.json"), "{");
    const { reasons } = await judged(broken);
    expect(reasons[0]).toMatchObject({ code: "TOKENIZER_DIFFERS" });
    expect(reasons[0]!.message).toContain("tokenizer_config.json is not valid JSON");
  });

  it("is not compared where the recipe's own is not understood", async () => {
    const faulty = await copyOfBase((folder) =>
      edit(join(folder, "tokenizer.json"), (text) => text.replace('"id": 1,', '"id": 5000,')),
    );
    const input = { ...(await inputs(await locate(DEMO_BASE))), base: faulty };
    const { reasons, checks } = await tokenizerReasons(input, plansOf(input));
    expect(reasons).toEqual([]);
    expect(checks[0]!.detail).toContain("is said to have id 5000");
  });

  it("fails where a slow tokenizer's file is another, and passes where only its JSON is spaced otherwise", async () => {
    const ours = await copyOfBase(async (folder) => {
      await writeFile(join(folder, "vocab.json"), '{"a":1,"b":2}');
      await writeFile(join(folder, "merges.txt"), "#version: 0.2\na b\n");
    });
    const theirs = join(temporary, "other");
    await cp(ours.folder, theirs, { recursive: true });
    await writeFile(join(theirs, "vocab.json"), '{ "b": 2, "a": 1 }');
    const judge = async () => {
      const input = { ...(await inputs(await locate(theirs))), base: ours };
      return tokenizerReasons(input, plansOf(input));
    };
    expect((await judge()).reasons).toEqual([]);
    await writeFile(join(theirs, "merges.txt"), "#version: 0.2\nb a\n");
    expect((await judge()).reasons).toMatchObject([{ subject: "merges.txt" }]);
  });
});

describe("the recipe's tokenizer", () => {
  it("is the base's, or the adapter's where it ships another one, beside the base's word on how texts end", async () => {
    const input = await inputs(null);
    const own = recipeTokenizer(input, plansOf(input));
    expect(own.get("tokenizer.json")).toBe(join(DEMO_BASE, "tokenizer.json"));
    expect(own.get("generation_config.json")).toBe(join(DEMO_BASE, "generation_config.json"));
    const folder = join(temporary, "adapter");
    await cp(join(DEMO, "adapters/sentiment"), folder, { recursive: true });
    await cp(join(TOKENIZERS, "qwen"), folder, { recursive: true });
    const other = { ...input, sources: [...input.sources, await locate(folder)] };
    const theirs = recipeTokenizer(other, plansOf(other));
    expect(theirs.get("tokenizer.json")).toBe(join(folder, "tokenizer.json"));
    expect(theirs.get("generation_config.json")).toBe(join(DEMO_BASE, "generation_config.json"));
    const wanted = recipeTokenizer(other, plansOf(other, "base"));
    expect(wanted.get("tokenizer.json")).toBe(join(DEMO_BASE, "tokenizer.json"));
  });
});
