import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_GATE, gateDigest } from "../../src/core/evaluation/gates.ts";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { findGate, setGate } from "../../src/registry/gates.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
});
afterAll(() => test.close());

const document = (meanKld: number) => ({ thresholds: { BF16: { meanKld } } });

describe("a gate", () => {
  it("gets a version for each change, and none for a document that says the same", async () => {
    const first = await setGate(s.admin, { gate: "acme/strict", document: document(1e-4) });
    const same = await setGate(s.admin, { gate: "acme/strict", document: document(1e-4) });
    const second = await setGate(s.admin, { gate: "acme/strict", document: document(1e-5) });
    const back = await setGate(s.admin, { gate: "acme/strict", document: document(1e-4) });
    expect([first, same, second, back].map(({ gate }) => gate.version)).toEqual([1, 1, 2, 3]);
    expect(first.gate).toMatchObject({ name: "acme/strict", requires: [2], calibration: null });
    expect(first.digest).toBe(gateDigest(first.gate));
    expect(await test.db.gate.count()).toBe(3);
  });

  it("is found at its newest version or at any, and a built-in one by its plain name", async () => {
    const gate = "acme/found";
    for (const bound of [1e-4, 1e-5]) await setGate(s.admin, { gate, document: document(bound) });
    expect((await findGate(s.admin, gate)).gate.version).toBe(2);
    const old = await findGate(s.admin, `${gate}@1`);
    expect(old.gate.thresholds.BF16.meanKld).toBe(1e-4);
    for (const ref of ["default", "default@1"]) {
      expect((await findGate(s.as(ANONYMOUS), ref)).gate).toEqual(DEFAULT_GATE);
    }
    for (const ref of [`${gate}@3`, "acme/none", "none", "default@2"]) {
      await expect(findGate(s.admin, ref)).rejects.toMatchObject({ code: "NOT_FOUND", field: "gate" });
    }
    for (const ref of ["", "a/b/c", "default@", "default@0", "default@x", "acme/strict@1@2"]) {
      await expect(findGate(s.admin, ref)).rejects.toMatchObject({ code: "BAD_REF" });
    }
  });

  it("is its members' business: set by editors, found by nobody else", async () => {
    const editor = await s.account("gate-editor", { gated: "EDITOR" });
    const reader = await s.account("gate-reader", { gated: "VIEWER" });
    const other = await s.account("gate-other", { elsewhere: "ADMIN" });
    await setGate(editor, { gate: "gated/own", document: document(1e-4) });
    expect((await findGate(reader, "gated/own")).gate.version).toBe(1);
    const refused = setGate(reader, { gate: "gated/own", document: document(1e-5) });
    await expect(refused).rejects.toMatchObject({ code: "FORBIDDEN", field: "gate" });
    for (const who of [other, s.as(ANONYMOUS)]) {
      await expect(findGate(who, "gated/own")).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
    await expect(setGate(other, { gate: "gated/own", document: document(1e-5) })).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
  });

  it("set by two at the same moment has two versions", async () => {
    const bounds = [1e-4, 2e-4, 3e-4, 4e-4];
    const set = await Promise.all(
      bounds.map((bound) => setGate(s.admin, { gate: "acme/race", document: document(bound) })),
    );
    expect(set.map(({ gate }) => gate.version).sort()).toEqual([1, 2, 3, 4]);
  });

  it("is refused with every reason, and may not be called as a built-in one is", async () => {
    const wrong = setGate(s.admin, {
      gate: "acme/wrong",
      document: { thresholds: { BF16: { meanKld: -1, sameTop: 2 } } },
    });
    await expect(wrong).rejects.toMatchObject({ code: "BAD_GATE", reasons: { length: 2 } });
    const named = setGate(s.admin, { gate: "acme/default", document: document(1) });
    await expect(named).rejects.toMatchObject({ code: "BAD_GATE", field: "name" });
    expect(await test.db.gate.count({ where: { name: { in: ["wrong", "default"] } } })).toBe(0);
  });
});
