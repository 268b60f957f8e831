import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { renderHtml } from "../../../src/core/evaluation/html.ts";
import { renderMarkdown } from "../../../src/core/evaluation/markdown.ts";
import type { EvaluationReport } from "../../../src/core/evaluation/report.ts";
import { finish } from "../../../src/engine/digest.ts";
import { evaluate } from "../../../src/engine/evaluation/evaluate.ts";
import { type LocalEvaluation, prepareEvaluation } from "../../../src/engine/evaluation/local.ts";
import { readTensors, writeTensors } from "../../support/tensor-files.ts";

/*
 * Whole evaluations: of the demo family, whose perplexities transformers and PEFT gave, and of what cannot be run or
 * judged.
 */
const FIXTURES = resolve(import.meta.dirname, "../../fixtures");
const DEMO = join(FIXTURES, "demo");
const options = { threads: 2 };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-evaluate-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function evaluated(
  request: Partial<LocalEvaluation> & Pick<LocalEvaluation, "base" | "adapters">,
): Promise<EvaluationReport> {
  const whole: LocalEvaluation = {
    merged: null,
    choices: { tokenizer: null },
    choicesGiven: false,
    texts: null,
    tasks: null,
    prompts: null,
    gate: null,
    options: {},
    device: "cpu",
    ...request,
  };
  const { inputs } = await finish(prepareEvaluation(whole, options));
  return await finish(evaluate(inputs, options));
}

const demo = (name: string) => ({
  base: join(DEMO, "base"),
  adapters: [{ folder: join(DEMO, "adapters", name), weight: 1 }],
  texts: join(DEMO, "eval.jsonl"),
});

async function lines(name: string, content: readonly object[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return path;
}

const passed = new Map<string, Promise<EvaluationReport>>();
/** What the recipe would write, over the family's own texts: evaluated once for all tests. */
function demoReport(name: string): Promise<EvaluationReport> {
  const report = passed.get(name) ?? evaluated(demo(name));
  passed.set(name, report);
  return report;
}

/** One short prompt, where continuations are not the question. */
const none = () => lines("one.jsonl", [{ prompt: "Review by" }]);

interface Perplexities {
  readonly base: number;
  readonly adapters: Record<string, { readonly adapter: number; readonly merged: number }>;
}

describe("evaluations of the demo family", () => {
  it.each(["customer-support", "sentiment", "polite-rewriter", "customer-support-2", "light-touch"])(
    "pass in bfloat16, with the perplexities of transformers and PEFT: %s",
    async (name) => {
      const { perplexity } = JSON.parse(await readFile(join(DEMO, "behaviour.json"), "utf8")) as {
        perplexity: Perplexities;
      };
      const report = await demoReport(name);
      expect(report.reasons).toEqual([]);
      expect(report.verdict).toBe("PASSED");
      const want = perplexity.adapters[name]!;
      const { reference, candidate } = report.logits!.perplexity!;
      expect(Math.abs(reference.value / want.adapter - 1)).toBeLessThan(1e-4);
      expect(Math.abs(candidate.value / want.merged - 1)).toBeLessThan(1e-4);
      expect(report.logits).toMatchObject({ documents: 64, predictions: 2671, nonFiniteLogits: 0 });
      expect(report.texts).toMatchObject({ documents: 64, tokens: 2735 });
      expect(report.weights!.maxUlp).toBe(0);
      expect(report.candidate).toMatchObject({ kind: "recipe", dtype: "BF16" });
      expect(report.logits!.timesFloor).toBeGreaterThan(10);
    },
  );

  it("show how much of a light adapter rounding costs, and how much of a strong one", async () => {
    const [light, strong] = [await demoReport("light-touch"), await demoReport("sentiment")];
    // About a tenth of every change of the light one is lost, and the logits show it against its small effect.
    expect(light.weights!.relativeError).toBeGreaterThan(0.1);
    expect(strong.weights!.relativeError).toBeLessThan(0.02);
    expect(light.weights!.projection).toBeCloseTo(1, 2);
    expect(light.weights!.moved).toBeLessThan(strong.weights!.moved);
    expect(light.logits!.effect!.share! / strong.logits!.effect!.share!).toBeGreaterThan(100);
  });

  it("judge a checkpoint that PEFT wrote, with tasks", async () => {
    const heldout = JSON.parse(await readFile(join(DEMO, "heldout/sentiment.json"), "utf8")) as {
      prompt: string;
      expected: string;
    }[];
    const tasks = await lines("tasks.jsonl", heldout.slice(0, 60));
    const report = await evaluated({ ...demo("sentiment"), merged: join(DEMO, "expected/sentiment"), tasks });
    expect(report.verdict).toBe("PASSED");
    expect(report.candidate).toMatchObject({ kind: "checkpoint", dtype: "BF16" });
    expect(report.candidate.version).toMatch(/^sha256:/);
    expect(report.tasks).toMatchObject({
      examples: 60,
      bothRight: 60,
      onlyReference: 0,
      onlyCandidate: 0,
      neither: 0,
    });
    expect(report.tasks!.mcnemar.p).toBe(1);
    expect(report.text!.exactMatch.value).toBe(1);
  });

  it("fail for the base in the merged checkpoint's place, at every level", async () => {
    const report = await evaluated({
      ...demo("sentiment"),
      merged: join(DEMO, "base"),
      prompts: await none(),
    });
    expect(report.verdict).toBe("FAILED");
    expect(report.reasons.map(({ code }) => code)).toEqual(
      expect.arrayContaining(["NO_EFFECT", "KLD_ABOVE_GATE"]),
    );
    expect(report.logits!.effect!.share).toBeCloseTo(1, 1);
    expect(report.logits!.firstApart!.layer).toBe("layer 0");
  });

  it.each([
    ["model.norm.weight", "final norm"],
    ["model.layers.2.self_attn.q_proj.weight", "layer 2"],
  ])("fail for a NaN in %s, with a report of everything that can be told", async (tensor, layer) => {
    const merged = join(folder, `nan-${tensor}`);
    await cp(join(DEMO, "expected/sentiment"), merged, { recursive: true });
    const file = join(merged, "model.safetensors");
    const tensors = await readTensors(file);
    Buffer.from(tensors.get(tensor)!.bytes.buffer, tensors.get(tensor)!.bytes.byteOffset).writeUInt16LE(
      0x7fc0,
      6,
    );
    await writeTensors(file, tensors);
    const report = await evaluated({ ...demo("sentiment"), merged, prompts: await none() });
    expect(report.verdict).toBe("FAILED");
    expect(report.reasons[0]).toMatchObject({ code: "NOT_FINITE", subject: tensor });
    expect(report.reasons.map(({ code }) => code)).not.toContain("CHECK_FAILED");
    expect(report.logits!.nonFiniteLogits).toBeGreaterThan(0);
    expect(report.logits!.firstApart).toMatchObject({ layer, why: expect.stringContaining("NaN") });
    expect(report.logits!.layers.at(-1)!.relativeError).toBeNull();
    expect(report.logits!.layers[0]).toMatchObject({ relativeError: 0, maxAbs: 0 });
    expect(renderHtml(report)).toContain("not finite");
    expect(renderMarkdown(report)).toContain("NOT\\_FINITE");
  });

  it("fail for another tokenizer in the merged folder, naming what differs", async () => {
    const merged = join(folder, "other-tokenizer");
    await cp(join(DEMO, "expected/sentiment"), merged, { recursive: true });
    const tokenizer = JSON.parse(await readFile(join(DEMO, "base/tokenizer.json"), "utf8")) as {
      model: { vocab: Record<string, number> };
    };
    const { vocab } = tokenizer.model;
    const [a, b] = Object.keys(vocab).slice(300, 302) as [string, string];
    [vocab[a], vocab[b]] = [vocab[b]!, vocab[a]!];
    await writeFile(join(merged, "tokenizer.json"), JSON.stringify(tokenizer));
    const report = await evaluated({ ...demo("sentiment"), merged, prompts: await none() });
    expect(report.verdict).toBe("FAILED");
    expect(new Set(report.reasons.map(({ code }) => code))).toEqual(new Set(["TOKENIZER_DIFFERS"]));
    expect(report.reasons[0]!.message).toMatch(/tokenizer\.json/);
  });

  it("stay open with too few documents", async () => {
    const texts = await lines("few.jsonl", [
      { text: "Ticket 12 from Olga." },
      { text: "Review by Yuki: good." },
    ]);
    const report = await evaluated({ ...demo("sentiment"), texts });
    expect(report.verdict).toBe("INCONCLUSIVE");
    expect(report.reasons.map(({ code }) => code)).toContain("TOO_FEW_DOCUMENTS");
  });

  it("take the same numbers from the same seed", async () => {
    const twice = [await demoReport("sentiment"), await evaluated(demo("sentiment"))].map(
      ({ timings: _, ...report }) => report,
    );
    expect(twice[0]).toEqual(twice[1]);
  });
});

describe("evaluations of other models", () => {
  it("say why there is no level 2 for an architecture that is not known, and judge the weights", async () => {
    const merge = join(FIXTURES, "merge/vit-conv-linear");
    const { base } = JSON.parse(await readFile(join(merge, "case.json"), "utf8")) as { base: string };
    const report = await evaluated({
      base: resolve(merge, base),
      adapters: [{ folder: join(merge, "adapter"), weight: 1 }],
    });
    expect(report.logits).toBeNull();
    expect(report.logitsSkipped).toMatch(/vit/);
    expect(report.weights!.maxUlp).toBe(0);
    expect(report.verdict).toBe("INCONCLUSIVE");
    expect(report.reasons.map(({ code }) => code)).toContain("LEVEL_NOT_MEASURED");
  });

  it("run several adapters beside the base, against whatever they became", async () => {
    const adapters = ["sentiment", "light-touch"].map((name) => ({
      folder: join(DEMO, "adapters", name),
      weight: 0.5,
    }));
    const report = await evaluated({
      ...demo("sentiment"),
      adapters,
      merged: join(DEMO, "expected/sentiment"),
    });
    expect(report.reference.sources.map(({ weight }) => weight)).toEqual([0.5, 0.5]);
    // No bytes are canonical, and one adapter's merge is not both at half their weight.
    expect(report.weights).toMatchObject({ touched: 42, maxUlp: null });
    expect(report.recipeDigest).toBeNull();
    expect(report.verdict).toBe("FAILED");
    const codes = report.reasons.map(({ code, level }) => `${level} ${code}`);
    expect(codes).toEqual(expect.arrayContaining(["1 ADAPTER_DIFFERS", "2 KLD_ABOVE_GATE"]));
  });
});
