import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseReport } from "../../src/core/evaluation/schema.ts";
import { cli, DEMO } from "../support/cli.ts";

const BASE = join(DEMO, "base");
const adapter = (name: string) => join(DEMO, "adapters", name);

let folder: string;
/** As few texts as a verdict needs. */
let TEXTS: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-evaluate-"));
  TEXTS = join(folder, "texts.jsonl");
  const lines = (await readFile(join(DEMO, "eval.jsonl"), "utf8")).trim().split("\n");
  const short = lines.sort((a, b) => a.length - b.length).slice(0, 30);
  await writeFile(TEXTS, short.join("\n"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function evaluate(name: string, ...more: string[]) {
  const { code, stdout, stderr } = await cli(
    "evaluate",
    ...["--base", BASE, "--adapter", adapter(name), "--json"],
    ...["--max-new-tokens", "4", ...(more.includes("--floor-tokens") ? [] : ["--floor-tokens", "64"])],
    ...more,
  );
  return { code, stderr, document: JSON.parse(stdout) };
}

async function jsonl(name: string, lines: readonly object[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, lines.map((line) => JSON.stringify(line)).join("\n"));
  return path;
}

async function merge(name: string, ...more: string[]): Promise<string> {
  const out = join(folder, `${name}${more.join("")}`);
  const { code } = await cli("merge", "--base", BASE, "--adapter", adapter(name), "--out", out, ...more);
  expect(code).toBe(0);
  return out;
}

describe("evaluate", () => {
  it("passes a right merge, and writes the report for programs, people and cards", async () => {
    const merged = await merge("sentiment");
    const out = join(folder, "report");
    const { code, document } = await evaluate(
      "sentiment",
      "--merged",
      merged,
      "--texts",
      TEXTS,
      "--out",
      out,
    );
    expect(code).toBe(0);
    expect(parseReport(document)).toMatchObject({
      verdict: "PASSED",
      reasons: [],
      candidate: { kind: "checkpoint", label: merged, dtype: "BF16" },
      logits: { documents: 30 },
    });
    expect((await readdir(out)).sort()).toEqual(["report.html", "report.json", "report.md"]);
    expect(JSON.parse(await readFile(join(out, "report.json"), "utf8"))).toEqual(document);
    expect(await readFile(join(out, "report.html"), "utf8")).toContain("PASSED");
    expect(await readFile(join(out, "report.md"), "utf8")).toContain("PASSED");
  });

  it("fails the merge of another adapter with exit code 1, and says why", async () => {
    const merged = await merge("polite-rewriter");
    const { code, stderr, document } = await evaluate("sentiment", "--merged", merged, "--texts", TEXTS);
    expect(code).toBe(1);
    expect(stderr).toContain("EVALUATION_FAILED");
    expect(document.verdict).toBe("FAILED");
    expect(document.reasons.length).toBeGreaterThan(0);
    expect(document.error.code).toBe("EVALUATION_FAILED");
  });

  it("ends with exit code 3 where there is too little text to tell", async () => {
    const texts = await jsonl("few.jsonl", [{ text: "Review by Yuki: Worst thin drum I have ever used." }]);
    const { code, stderr, document } = await evaluate("sentiment", "--texts", texts, "--floor-tokens", "0");
    expect([code, document.verdict]).toEqual([3, "INCONCLUSIVE"]);
    expect(stderr).toContain("EVALUATION_INCONCLUSIVE");
    expect(document.candidate.kind).toBe("recipe");
    expect(document.logits.floor).toBeNull();
  });

  it("takes the recorded choices of a merge of ours, unless options make others", async () => {
    const merged = await merge("sentiment", "--include", "q_proj");
    const recorded = await evaluate("sentiment", "--merged", merged, "--texts", TEXTS);
    expect([recorded.code, recorded.document.weights.touched]).toEqual([0, 6]);
    const other = await evaluate(
      "sentiment",
      "--merged",
      merged,
      "--texts",
      TEXTS,
      "--include",
      "q_proj,v_proj",
    );
    expect([other.code, other.document.weights.touched]).toEqual([1, 12]);
  });

  it("judges under a gate of one's own, over tasks and prompts of one's own", async () => {
    const heldout = JSON.parse(await readFile(join(DEMO, "heldout/sentiment.json"), "utf8"));
    const gate = join(folder, "gate.json");
    await writeFile(
      gate,
      JSON.stringify({
        name: "tasks",
        thresholds: { BF16: { accuracyDrop: 0, exactMatch: 1 } },
        minimumDocuments: 1,
      }),
    );
    const tasks = await jsonl("tasks.jsonl", heldout.slice(0, 24));
    const prompts = await jsonl("prompts.jsonl", [{ prompt: heldout[0].prompt }]);
    const texts = await jsonl("some.jsonl", [{ text: "Review by Yuki: Worst thin drum I have ever used." }]);
    const files = ["--gate", gate, "--tasks", tasks, "--prompts", prompts, "--texts", texts];
    const { document } = await evaluate("sentiment", ...files);
    expect(document).toMatchObject({
      gate: { name: "tasks" },
      tasks: { examples: 24, reference: { value: 1 }, candidate: { value: 1 } },
      text: { prompts: [{ prompt: heldout[0].prompt, firstDivergence: null }] },
    });
  });

  it("lets the name of a folder write no line of its own, steer no terminal and turn no text around", async () => {
    const name = join(folder, "m\n✓ PASSED under the gate default@1\n\x1b[31m\u202egnp");
    await cp(BASE, name, { recursive: true });
    const args = ["--base", BASE, "--adapter", adapter("sentiment"), "--texts", TEXTS, "--floor-tokens", "0"];
    const { code, stdout, stderr } = await cli("evaluate", ...args, "--merged", name);
    expect(code).toBe(1);
    expect(stdout).not.toMatch(/^✓ PASSED/m);
    expect(stdout).toContain("\\x1b[31m\\u202egnp");
    for (const sign of ["\x1b", "\u202e"]) expect(stdout + stderr).not.toContain(sign);
  });

  it("shows a table of the levels with what the gate asks, and the verdict last", async () => {
    const texts = ["--texts", TEXTS, "--max-new-tokens", "4", "--floor-tokens", "64"];
    const args = ["--base", BASE, "--adapter", adapter("light-touch"), ...texts];
    const { code, stdout, stderr } = await cli("evaluate", ...args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/ 2 +mean KLD, nats +\S+ ± \S+ +\S+ to \S+ +≤ 1e-3/);
    expect(stdout).toMatch(/ 1 +touched weights that moved +\d+\.?\d* %/);
    expect(stdout).toContain("Level 4 (tasks) was not measured");
    expect(stdout).toContain("✓ PASSED under the gate default@1");
    expect(stderr).toMatch(/logits: running both sides over \d+ tokens/);
  });
});

describe("an evaluation is refused", () => {
  it.each([
    ["for texts that are none", "texts", "nonsense", "BAD_TEXTS"],
    ["for tasks that are none", "tasks", '{"text": "a"}', "BAD_TASKS"],
    ["for prompts that are none", "prompts", '{"text": "a"}', "BAD_PROMPTS"],
    ["for a gate that judges nothing", "gate", '{"name": "a", "thresholds": {}}', "BAD_GATE"],
  ])("%s", async (_, option, content, code) => {
    const path = join(folder, `bad-${option}`);
    await writeFile(path, content);
    const found = await evaluate("sentiment", `--${option}`, path);
    expect([found.code, found.document.error.code]).toEqual([1, code]);
  });

  it("for texts in another encoding than UTF-8, by the line", async () => {
    const path = join(folder, "latin.jsonl");
    await writeFile(path, Buffer.from('{"text": "one"}\n{"text": "caf\xe9"}\n', "latin1"));
    const { code, document } = await evaluate("sentiment", "--texts", path);
    expect([code, document.error.code]).toEqual([1, "NOT_UTF8"]);
    expect(document.error.message).toContain("latin.jsonl: line 2 is not UTF-8");
  });

  it("for a weight that is none, although the folder is there", async () => {
    for (const weight of ["", "NaN", "1e999", "0", "half"]) {
      const found = await cli("evaluate", "--base", BASE, "--adapter", `${adapter("sentiment")}=${weight}`);
      expect([found.code, found.stderr]).toEqual([1, expect.stringContaining(`"${weight}" is not a weight`)]);
    }
  });

  it("where the report's folder exists, before anything is read", async () => {
    const found = await cli("evaluate", "--base", "no", "--adapter", "no", "--out", folder);
    expect([found.code, found.stderr]).toEqual([1, expect.stringContaining("OUTPUT_EXISTS")]);
  });

  it("where the report could not be written, before anything is read, and leaves nothing there", async () => {
    const file = join(folder, "a-file");
    await writeFile(file, "text");
    for (const [out, code] of [
      ["/proc/report", "NOT_WRITABLE"],
      [join(file, "report"), "NOT_FOUND"],
      [join(folder, "a".repeat(300)), "NOT_FOUND"],
    ] as const) {
      const before = await readdir(folder);
      const found = await cli("evaluate", "--base", "no", "--adapter", "no", "--out", out);
      expect([found.code, found.stderr], out).toEqual([1, expect.stringContaining(code)]);
      expect(found.stderr).not.toContain(".graftwork-");
      expect(await readdir(folder)).toEqual(before);
    }
  });

  it("for a base or an adapter other than the pinned one", async () => {
    const pin = `sha256:${"0".repeat(64)}`;
    for (const option of ["--base-digest", "--adapter-digest"]) {
      const found = await evaluate("sentiment", option, pin);
      expect([found.code, found.document.error.code], option).toEqual([1, "DIGEST_MISMATCH"]);
    }
  });

  it("for folders in the wrong place", async () => {
    const swapped = await cli("evaluate", "--base", adapter("sentiment"), "--adapter", BASE);
    expect([swapped.code, swapped.stderr]).toEqual([1, expect.stringContaining("NOT_A_CHECKPOINT")]);
    const base = await cli("evaluate", "--base", BASE, "--adapter", BASE);
    expect([base.code, base.stderr]).toEqual([1, expect.stringContaining("NOT_AN_ADAPTER")]);
    const merged = await evaluate("sentiment", "--merged", adapter("sentiment"));
    expect([merged.code, merged.document.error.code]).toEqual([1, "NOT_A_CHECKPOINT"]);
  });

  it("of several adapters without a checkpoint that they became; a folder named like a weight is a folder", async () => {
    const strange = join(folder, "lr=0.5");
    await cp(adapter("sentiment"), strange, { recursive: true });
    const both = ["--adapter", `${strange}=0.25`, "--adapter", adapter("light-touch")];
    const several = await cli("evaluate", "--base", BASE, ...both, "--json");
    expect([several.code, JSON.parse(several.stdout).error.code]).toEqual([1, "UNSUPPORTED_RECIPE"]);
    const args = ["--base", BASE, "--adapter", strange, "--texts", TEXTS, "--floor-tokens", "0", "--json"];
    const { reference } = JSON.parse((await cli("evaluate", ...args)).stdout);
    expect(reference.sources).toMatchObject([{ label: strange, weight: 1 }]);
  });
});
