import { describe, expect, it } from "vitest";
import { AppError } from "../../../src/core/errors.ts";
import { DEFAULT_GATE, gateDigest, parseGate } from "../../../src/core/evaluation/gates.ts";
import { gateSchema } from "../../../src/core/evaluation/report.ts";

function refusedFields(json: unknown): (string | undefined)[] {
  try {
    parseGate(json, "gate.json");
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    expect(error.code).toBe("BAD_GATE");
    expect(error.message).toContain("gate.json");
    return error.reasons!.map((reason) => reason.subject);
  }
  throw new Error("it was not refused");
}

const strict = { name: "strict", thresholds: { BF16: { meanKld: 1e-4 } } };

describe("the built-in gate", () => {
  it("is a gate that a report can hold, with bounds for every storage type and a word on their origin", () => {
    expect(gateSchema.parse(DEFAULT_GATE)).toEqual(DEFAULT_GATE);
    const { F32, F16, BF16 } = DEFAULT_GATE.thresholds;
    expect([F32, F16, BF16].map((t) => [t.maxUlp, t.meanKld, t.sameTop])).toEqual([
      [1, 1e-6, 0.999],
      [1, 1e-4, 0.995],
      [1, 1e-3, 0.99],
    ]);
    expect(DEFAULT_GATE).toMatchObject({ name: "default", version: 1, minimumDocuments: 30, requires: [2] });
    expect(DEFAULT_GATE.calibration).not.toBeNull();
  });

  it("can be written out and read again, and nothing else may take its name", () => {
    expect(parseGate(JSON.parse(JSON.stringify(DEFAULT_GATE)))).toEqual(DEFAULT_GATE);
    expect(refusedFields({ ...DEFAULT_GATE, minimumDocuments: 2 })).toEqual(["name"]);
    expect(refusedFields({ ...DEFAULT_GATE, version: 2 })).toEqual(["name"]);
  });
});

describe("a gate file", () => {
  it("needs a name and a threshold; what is left out is not judged", () => {
    const gate = parseGate(strict);
    expect(gate).toMatchObject({
      name: "strict",
      version: 1,
      description: "",
      minimumDocuments: 30,
      requires: [2],
      calibration: null,
    });
    expect(gate.thresholds.BF16).toEqual({
      maxUlp: null,
      meanKld: 1e-4,
      sameTop: null,
      perplexityRatio: null,
      exactMatch: null,
      accuracyDrop: null,
    });
    expect(Object.values(gate.thresholds.F32)).toEqual(Array(6).fill(null));
  });

  it("may be one that a registry gave out", () => {
    const gate = { ...parseGate(strict), name: "acme/strict", version: 4 };
    expect(parseGate(JSON.parse(JSON.stringify(gate)))).toEqual(gate);
  });

  it("requires each level that it has a threshold for, unless it says which", () => {
    const thresholds = { F32: { accuracyDrop: 0.01 }, BF16: { exactMatch: 0.9, maxUlp: 1 } };
    expect(parseGate({ name: "a", thresholds }).requires).toEqual([3, 4]);
    expect(parseGate({ name: "a", thresholds, requires: [] }).requires).toEqual([]);
    expect(parseGate({ name: "a", thresholds, requires: [4, 2] }).requires).toEqual([2, 4]);
  });

  it("has the same digest however it is written, and another one for another threshold", () => {
    const same = parseGate({
      thresholds: { F32: {}, BF16: { sameTop: null, meanKld: 0.0001 } },
      requires: [2],
      version: 1,
      name: "strict",
    });
    expect(gateDigest(same)).toBe(gateDigest(parseGate(strict)));
    const other = parseGate({ name: "strict", thresholds: { BF16: { meanKld: 1.1e-4 } } });
    expect(gateDigest(other)).not.toBe(gateDigest(same));
  });

  it.each([
    [
      "a percentage for a share",
      { name: "a", thresholds: { F16: { sameTop: 99.5 } } },
      ["thresholds.F16.sameTop"],
    ],
    ["a negative bound", { name: "a", thresholds: { F16: { meanKld: -1 } } }, ["thresholds.F16.meanKld"]],
    ["a text for a number", { name: "a", thresholds: { F16: { maxUlp: "1" } } }, ["thresholds.F16.maxUlp"]],
    ["an unknown threshold", { name: "a", thresholds: { F16: { meanKlD: 1 } } }, ["thresholds.F16"]],
    ["an unknown dtype", { name: "a", thresholds: { FP16: { meanKld: 1 } } }, ["thresholds"]],
    ["an unknown field", { ...strict, minimumDocument: 3 }, [undefined]],
    ["no thresholds", { name: "a" }, ["thresholds"]],
    [
      "thresholds that judge nothing",
      { name: "a", thresholds: { F32: {}, F16: { maxUlp: null } } },
      ["thresholds"],
    ],
    ["no name", { thresholds: strict.thresholds }, ["name"]],
    ["a name with markup", { ...strict, name: "<b>strict</b>" }, ["name"]],
    ["version 0", { ...strict, version: 0 }, ["version"]],
    ["half a document", { ...strict, minimumDocuments: 0.5 }, ["minimumDocuments"]],
    ["a level that does not exist", { ...strict, requires: [5] }, ["requires.0"]],
    ["a level twice", { ...strict, requires: [2, 2] }, ["requires"]],
    ["NUL in the description", { ...strict, description: "a\0b" }, ["description"]],
    ["half a surrogate pair", { ...strict, calibration: "\ud800" }, ["calibration"]],
    ["a list", [strict], [undefined]],
    [
      "two faults at once",
      { name: "", thresholds: { F32: { sameTop: 2 } } },
      ["name", "thresholds.F32.sameTop"],
    ],
  ])("is refused with the field's name: %s", (_, json, fields) => {
    expect(refusedFields(json)).toEqual(fields);
  });

  it("is refused in words that say what to write", () => {
    expect(() => parseGate({ name: "a", thresholds: { F16: { sameTop: 99.5 } } }, "gate.json")).toThrow(
      'gate.json: field "thresholds.F16.sameTop" must be a share from 0 to 1, such as 0.99.',
    );
    expect(() => parseGate({ ...strict, minimumDocument: 3 }, "gate.json")).toThrow(
      'gate.json has no field "minimumDocument"; there are name, version, description, thresholds, minimumDocuments, requires, calibration.',
    );
    expect(() => parseGate({ name: "a" }, "gate.json")).toThrow(
      'gate.json: field "thresholds" must be an object with F32, F16 or BF16.',
    );
  });
});
