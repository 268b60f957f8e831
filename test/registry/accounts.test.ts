import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  authenticateSession,
  authenticateToken,
  checkCsrf,
  createSession,
  deleteSession,
  ensureAdmin,
  replaceAdminToken,
} from "../../src/registry/accounts.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";

let test: TestDatabase;
beforeAll(async () => {
  test = await testDatabase();
});
afterAll(() => test.close());

let time = new Date("2026-01-01T00:00:00Z");
const ctx = () => ({ db: test.db, now: () => time });
const later = (ms: number) => {
  time = new Date(time.getTime() + ms);
};
const DAY = 24 * 3600 * 1000;

/** Starts from no account at all. */
async function firstToken(): Promise<string> {
  await test.db.account.deleteMany();
  const { token } = await ensureAdmin(ctx(), { presetToken: null });
  if (token === null) throw new Error("no token");
  return token;
}

describe("the admin account", () => {
  it("gets one token at the first start, even if two processes start at once, and keeps only its hash", async () => {
    await test.db.account.deleteMany();
    const made = await Promise.all([1, 2, 3].map(() => ensureAdmin(ctx(), { presetToken: null })));
    const tokens = made.map(({ token }) => token).filter((token) => token !== null);
    expect(tokens).toHaveLength(1);
    expect(await test.db.account.count()).toBe(1);
    const [row] = await test.db.apiToken.findMany();
    expect(JSON.stringify(row)).not.toContain(tokens[0]);
    expect(tokens[0]?.startsWith(row!.prefix)).toBe(true);
    const who = await authenticateToken(ctx(), tokens[0]!);
    expect(who?.viewer).toMatchObject({ accountId: made[0]?.accountId, isAdmin: true });
  });

  it("takes a preset token, drops it when another is preset, and takes it back", async () => {
    await test.db.account.deleteMany();
    const [one, two] = ["first-preset-token-0001", "second-preset-token-0002"] as const;
    expect((await ensureAdmin(ctx(), { presetToken: one })).token).toBeNull();
    expect(await authenticateToken(ctx(), one)).not.toBeNull();
    await ensureAdmin(ctx(), { presetToken: two });
    expect(await authenticateToken(ctx(), one)).toBeNull();
    expect(await authenticateToken(ctx(), two)).not.toBeNull();
    await ensureAdmin(ctx(), { presetToken: one });
    expect(await authenticateToken(ctx(), one)).not.toBeNull();
    expect(await authenticateToken(ctx(), two)).toBeNull();
  });

  it("has the preset token instead of the one that was made for it", async () => {
    const made = await firstToken();
    await ensureAdmin(ctx(), { presetToken: "first-preset-token-0001" });
    expect(await authenticateToken(ctx(), made)).toBeNull();
    expect(await authenticateToken(ctx(), "first-preset-token-0001")).not.toBeNull();
  });

  it("does not let back in who signed in with a preset token, when that token was replaced and came back", async () => {
    await test.db.account.deleteMany();
    const [one, two] = ["first-preset-token-0001", "second-preset-token-0002"] as const;
    await ensureAdmin(ctx(), { presetToken: one });
    const session = await createSession(ctx(), one);
    expect(await authenticateSession(ctx(), session.secret)).not.toBeNull();
    for (const presetToken of [two, one]) await ensureAdmin(ctx(), { presetToken });
    expect(await authenticateToken(ctx(), one)).not.toBeNull();
    expect(await authenticateSession(ctx(), session.secret)).toBeNull();
  });

  it("loses its old tokens and their sessions when the token is replaced", async () => {
    const old = await firstToken();
    const session = await createSession(ctx(), old);
    const fresh = await replaceAdminToken(ctx());
    expect(await authenticateToken(ctx(), old)).toBeNull();
    expect(await authenticateSession(ctx(), session.secret)).toBeNull();
    expect((await authenticateToken(ctx(), fresh))?.viewer.isAdmin).toBe(true);
  });
});

describe("a token", () => {
  it("is refused when it is unknown or has expired", async () => {
    const token = await firstToken();
    expect(await authenticateToken(ctx(), `${token}x`)).toBeNull();
    await test.db.apiToken.updateMany({ data: { expiresAt: new Date(time.getTime() + 1000) } });
    expect(await authenticateToken(ctx(), token)).not.toBeNull();
    later(1000);
    expect(await authenticateToken(ctx(), token)).toBeNull();
  });

  it("notes its use at most once a minute", async () => {
    const token = await firstToken();
    await authenticateToken(ctx(), token);
    const first = time;
    later(30_000);
    await authenticateToken(ctx(), token);
    expect((await test.db.apiToken.findFirstOrThrow()).lastUsedAt).toEqual(first);
    later(31_000);
    await authenticateToken(ctx(), token);
    expect((await test.db.apiToken.findFirstOrThrow()).lastUsedAt).toEqual(time);
  });
});

describe("a session", () => {
  it("stands for its token's account, checks its CSRF secret, and ends when it is deleted", async () => {
    const token = await firstToken();
    const { secret, csrf } = await createSession(ctx(), token);
    const session = await authenticateSession(ctx(), secret);
    expect(session?.viewer.isAdmin).toBe(true);
    expect(checkCsrf(session!, csrf)).toBe(true);
    expect(checkCsrf(session!, secret)).toBe(false);
    expect(checkCsrf(session!, undefined)).toBe(false);
    await deleteSession(ctx(), secret);
    expect(await authenticateSession(ctx(), secret)).toBeNull();
  });

  it("ends after a week, or with its token if that is sooner", async () => {
    const token = await firstToken();
    const long = await createSession(ctx(), token);
    later(7 * DAY - 1);
    expect(await authenticateSession(ctx(), long.secret)).not.toBeNull();
    later(1);
    expect(await authenticateSession(ctx(), long.secret)).toBeNull();
    const expiresAt = new Date(time.getTime() + DAY);
    await test.db.apiToken.updateMany({ data: { expiresAt } });
    expect((await createSession(ctx(), token)).expiresAt).toEqual(expiresAt);
  });

  it("is not made from a token that does not hold", async () => {
    await expect(createSession(ctx(), "gw_nonsense")).rejects.toMatchObject({ code: "BAD_TOKEN" });
  });
});
