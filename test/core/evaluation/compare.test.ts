import { describe, expect, it } from "vitest";
import { compareEvaluations } from "../../../src/core/evaluation/compare.ts";
import { gateDigest, parseGate } from "../../../src/core/evaluation/gates.ts";
import { digestJson } from "../../../src/core/identity.ts";
import {
  exampleLogits,
  exampleMetric,
  exampleReport,
  exampleUnjudged,
} from "../../support/example-report.ts";

const a = exampleReport();

describe("two evaluations side by side", () => {
  it("are the same without a warning where they are the same", () => {
    const { same, warnings, numbers, verdicts } = compareEvaluations(a, exampleReport());
    expect(same).toEqual({ reference: true, candidate: true, texts: true, gate: true });
    expect(warnings).toEqual([]);
    expect(verdicts).toEqual({ a: "PASSED", b: "PASSED" });
    expect(numbers.every(({ difference }) => difference === 0)).toBe(true);
    expect(numbers.find(({ key }) => key === "meanKld")).toMatchObject({ level: 2, overlap: true });
    expect(numbers.find(({ key }) => key === "maxKld")).toMatchObject({ overlap: null });
  });

  it("tell a difference that the intervals bear out from one that they do not", () => {
    const logits = exampleLogits();
    const kld = { ...logits.kld, mean: exampleMetric(4e-5, 0.4e-5) };
    const rms = exampleMetric(1.4e-3, 0.1e-3);
    const b = exampleReport({ logits: { ...logits, kld, deltaP: { ...logits.deltaP!, rms } } });
    const { numbers } = compareEvaluations(a, b);
    const mean = numbers.find(({ key }) => key === "meanKld")!;
    expect(mean.difference).toBeCloseTo(2.9e-5, 12);
    expect(mean.overlap).toBe(false);
    expect(numbers.find(({ key }) => key === "rmsDeltaP")).toMatchObject({ overlap: true });
  });

  it("keep a number that only one of them measured, on either side and in its level", () => {
    const without = exampleReport({ tasks: null, text: null });
    const forth = compareEvaluations(a, without).numbers.find(({ key }) => key === "exactMatch");
    expect(forth).toMatchObject({ a: { value: 0.5 }, b: null, difference: null, overlap: null });
    const back = compareEvaluations(without, a).numbers;
    expect(back.find(({ key }) => key === "exactMatch")).toMatchObject({ a: null, b: { value: 0.5 } });
    expect(back.map(({ level }) => level)).toEqual([...back.map(({ level }) => level)].sort());
    expect(back.map(({ key }) => key).sort()).toEqual(
      compareEvaluations(a, without)
        .numbers.map(({ key }) => key)
        .sort(),
    );
  });

  const { texts, environment, reference, tasks, text } = exampleUnjudged();
  const gate = parseGate({ name: "own", thresholds: { BF16: { meanKld: 1 } } });
  it.each([
    ["texts", { texts: { ...texts!, digest: digestJson("other") } }, ["OTHER_TEXTS"]],
    ["tokenizer", { texts: { ...texts!, tokenizer: digestJson("other") } }, ["OTHER_TOKENIZER"]],
    ["window", { texts: { ...texts!, stride: 7 } }, ["OTHER_WINDOW"]],
    ["template", { texts: { ...texts!, chatTemplate: true } }, ["OTHER_TEMPLATE"]],
    ["device", { environment: { ...environment, device: "cuda" } }, ["OTHER_DEVICE"]],
    ["program", { environment: { ...environment, graftwork: "0.2.0" } }, ["OTHER_PROGRAM"]],
    ["prompts", { text: { ...text!, maxNewTokens: 8 } }, ["OTHER_PROMPTS"]],
    ["tasks", { tasks: { ...tasks!, digest: digestJson("other") } }, ["OTHER_TASKS"]],
    ["gate", { gate, gateDigest: gateDigest(gate) }, ["OTHER_GATE"]],
    [
      "reference's weight",
      { reference: { ...reference, sources: [{ ...reference.sources[0]!, weight: 0.5 }] } },
      ["OTHER_REFERENCE"],
    ],
    ["reference's number of adapters", { reference: { ...reference, sources: [] } }, ["OTHER_REFERENCE"]],
    [
      "base",
      { reference: { ...reference, base: { ...reference.base, version: digestJson("other") } } },
      ["OTHER_REFERENCE"],
    ],
    [
      "base of unknown bytes",
      { reference: { ...reference, base: { ...reference.base, version: null, weights: null } } },
      ["UNKNOWN_REFERENCE"],
    ],
  ])("warn of another %s", (_, changes, codes) => {
    const { warnings } = compareEvaluations(a, exampleReport(changes));
    expect(warnings.map(({ code }) => code)).toEqual(codes);
    expect(warnings.every(({ message }) => /^[A-Z].*\.$/.test(message))).toBe(true);
  });

  it("are not called different because of a name: weights tell where versions are not known", () => {
    const base = { ...reference.base, label: "./llama", version: null };
    const { same } = compareEvaluations(a, exampleReport({ reference: { ...reference, base } }));
    expect(same.reference).toBe(true);
  });
});
