import { describe, expect, test } from "vitest";
import type { JobEvent } from "../../src/client/documents.ts";
import { addEvent, describeEvent, eventTitle, isOver, nextStep } from "../../web/src/jobs/events.ts";
import { addSample, rateOf, type Sample, secondsLeft } from "../../web/src/jobs/progress.ts";

const event = (number: number): JobEvent => ({
  cursor: `c${number}`,
  number,
  type: "STAGE",
  at: "2026-11-24T09:00:00.000Z",
  data: {},
});
const sample = (at: number, done: number, stage = "merge"): Sample => ({ at, stage, done, total: 1000 });
const collect = (...list: Sample[]) => list.reduce(addSample, [] as readonly Sample[]);

describe("a job's events", () => {
  test("a replay after a dropped connection adds nothing twice and keeps the order", () => {
    const events = [1, 2, 1, 2, 4, 3].map((n) => event(n)).reduce(addEvent, [] as readonly JobEvent[]);
    expect(events.map((e) => e.number)).toEqual([1, 2, 3, 4]);
  });

  test("an event that is there already leaves the list as it is, so nothing is drawn again", () => {
    const events = addEvent([], event(1));
    expect(addEvent(events, event(1))).toBe(events);
  });

  test("only the three ends are ends", () => {
    expect(["QUEUED", "RUNNING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED"].filter(isOver)).toEqual([
      "SUCCEEDED",
      "FAILED",
      "CANCELLED",
    ]);
  });

  test.each([
    [{ code: "NOT_FINITE", message: "tensor a holds NaN." }, "NOT_FINITE: tensor a holds NaN."],
    [{ stage: "merge", message: "merging 42 of 56 tensors" }, "merging 42 of 56 tensors"],
    [{ code: "INTERRUPTED", reason: "its worker was stopped" }, "INTERRUPTED: its worker was stopped"],
    [{ stage: "merge" }, "merge"],
    [{ attempt: 2, workerId: "host-1" }, "attempt 2, worker id host-1"],
    [{ counts: { a: 1 }, nothing: null, empty: "" }, 'counts {"a":1}'],
    [{}, ""],
    [null, ""],
  ])("%j reads as %j", (data, text) => {
    expect(describeEvent({ type: "STAGE", data })).toBe(text);
  });

  test("a success names what it made, and says where that was there before", () => {
    const say = (data: unknown) => describeEvent({ type: "SUCCEEDED", data });
    expect(say({ digest: "sha256:ab", number: 1, created: true })).toBe("sha256:ab");
    expect(say({ digest: "sha256:ab", number: 1, created: false })).toBe(
      "these bytes were there already: sha256:ab",
    );
    expect(say({ cached: true })).toMatch(/made before/);
    expect(say({ verdict: "PASSED" })).toBe("every tensor is identical");
    expect(say({ verdict: "FAILED" })).toMatch(/differs/);
    expect(say({})).toBe("");
  });

  test("titles are words", () => {
    expect(["CLAIMED", "PROGRESS_NOTE"].map(eventTitle)).toEqual(["Claimed", "Note"]);
  });

  test("every failure has a next step", () => {
    expect(nextStep("SOMETHING_NEW")).toMatch(/start it again/);
  });
});

describe("a job's rate", () => {
  test("is what was done over the last seconds", () => {
    const samples = collect(sample(0, 0), sample(1000, 100), sample(2000, 300));
    expect(rateOf(samples)).toBe(150);
    expect(secondsLeft(samples)).toBeCloseTo(700 / 150);
  });

  test("forgets what is older than its window", () => {
    const samples = collect(sample(0, 0), sample(10_000, 100), sample(12_000, 300));
    expect(rateOf(samples)).toBe(100);
  });

  test("starts afresh with a new stage, and when an attempt starts over", () => {
    expect(rateOf(collect(sample(0, 0), sample(1000, 500), sample(2000, 10, "check")))).toBeNull();
    expect(rateOf(collect(sample(0, 500), sample(1000, 10)))).toBeNull();
  });

  test("is unknown before anything moved", () => {
    expect(rateOf([])).toBeNull();
    expect(rateOf(collect(sample(0, 5), sample(1000, 5)))).toBeNull();
    expect(secondsLeft(collect(sample(0, 5)))).toBeNull();
  });
});
