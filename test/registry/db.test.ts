import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isConnectionError } from "../../src/registry/db.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";

let test: TestDatabase;
beforeAll(async () => {
  test = await testDatabase();
});
afterAll(() => test.close());

describe("a statement that is wrong", () => {
  it("is not taken for a database that is away", async () => {
    const { db, pool } = test;
    const name = randomUUID();
    await db.namespace.create({ data: { name } });
    const wrong: (() => Promise<unknown>)[] = [
      () => db.namespace.create({ data: { name } }),
      () => db.namespace.findUniqueOrThrow({ where: { name: "none" } }),
      () => db.$queryRaw`select 1/0`,
      () => db.$queryRaw`select nonsense`,
      () => db.$transaction(async () => Promise.reject(new Error("changed my mind"))),
      () => pool.query("select 1/0"),
    ];
    for (const request of wrong) {
      const error = await request().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(Error);
      expect(isConnectionError(error)).toBe(false);
    }
  });
});
