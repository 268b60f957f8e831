import { describe, expect, it } from "vitest";
import { Agenda, type AgendaItem } from "../../src/engine/agenda.ts";

const item = (size: number, group = 0, after: readonly number[] = []): AgendaItem => ({ size, group, after });

/** The order in which one thread does everything. */
function alone(items: readonly AgendaItem[]): number[] {
  const agenda = new Agenda(items);
  const order: number[] = [];
  for (let next = agenda.next(); typeof next === "number"; next = agenda.next()) {
    order.push(next);
    agenda.done(next);
  }
  return order;
}

describe("the order of works", () => {
  it("is group by group, the largest of a group first", () => {
    expect(alone([item(1, 1), item(5, 0), item(9, 1), item(7, 0)])).toEqual([3, 1, 2, 0]);
  });

  it("puts what waits after what it waits for, and then in its place", () => {
    expect(alone([item(9, 0, [2]), item(3), item(1), item(5, 0, [0])])).toEqual([1, 2, 0, 3]);
  });

  it("starts what waits for several when the last of them is done", () => {
    const agenda = new Agenda([item(2), item(1), item(9, 0, [0, 1])]);
    expect([agenda.next(), agenda.next(), agenda.next()]).toEqual([0, 1, "later"]);
    agenda.done(1);
    expect(agenda.next()).toBe("later");
    agenda.done(0);
    expect([agenda.next(), agenda.next()]).toEqual([2, null]);
  });

  it("has threads wait while all that is left waits for a running work, and ends when nothing is left", () => {
    const agenda = new Agenda([item(1), item(1, 0, [0])]);
    expect([agenda.next(), agenda.next()]).toEqual([0, "later"]);
    agenda.done(0);
    expect([agenda.next(), agenda.next()]).toEqual([1, null]);
  });
});
