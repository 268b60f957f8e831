import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { AppError } from "../core/errors.ts";
import type { Viewer } from "../core/permissions.ts";
import type { RegistryContext } from "./context.ts";
import { lockName, type Tx } from "./db.ts";
import { toViewer, VIEWER_FIELDS } from "./visibility.ts";

type AccountsContext = Pick<RegistryContext, "db" | "now">;

const ADMIN = "admin";
const ADMIN_LOCK = "graftwork admin";
const ADMIN_TOKEN = "admin";
const PRESET_TOKEN = "GRAFTWORK_ADMIN_TOKEN";
const SESSION_MS = 7 * 24 * 3600 * 1000;
/** Writing at each request that a token was used would cost more than it tells. */
const LAST_USED_MS = 60_000;

/** Who a request is from, and until when that holds: a long connection asks again at `expiresAt`. */
export interface Authenticated {
  readonly viewer: Viewer;
  readonly tokenId: string;
  readonly expiresAt: Date | null;
}

export interface AuthenticatedSession extends Authenticated {
  readonly sessionId: string;
  /** For `checkCsrf`. */
  readonly csrfHash: string;
}

/**
 * Makes the account `admin` with a token at the first start, and takes over a preset token whenever it changes. Safe
 * under several processes at once. `token` is the new token where one was made, and is not stored anywhere: show it.
 */
export async function ensureAdmin(
  ctx: AccountsContext,
  input: { readonly presetToken: string | null },
): Promise<{ accountId: string; token: string | null }> {
  return await ctx.db.$transaction(async (tx) => {
    const account = await holdAdmin(tx);
    const accountId = account.id;
    const preset = input.presetToken;
    if (preset !== null) {
      const hash = hashSecret(preset);
      // It is the admin token instead of the generated one and of what was preset before.
      const earlier = account.tokens.filter(
        ({ name, hash: other }) => (name === PRESET_TOKEN || name === ADMIN_TOKEN) && other !== hash,
      );
      await revoke(tx, earlier, ctx.now());
      if (!account.tokens.some((token) => token.hash === hash)) {
        await storeToken(tx, { accountId, name: PRESET_TOKEN, token: preset });
      }
      return { accountId, token: null };
    }
    if (account.tokens.length > 0) return { accountId, token: null };
    const token = newToken();
    await storeToken(tx, { accountId, name: ADMIN_TOKEN, token });
    return { accountId, token };
  });
}

/** The admin's account with its valid tokens, made if missing; other processes wait until the transaction ends. */
async function holdAdmin(tx: Tx) {
  await lockName(tx, ADMIN_LOCK);
  return await tx.account.upsert({
    where: { name: ADMIN },
    create: { name: ADMIN, isAdmin: true },
    update: {},
    include: { tokens: { where: { revokedAt: null } } },
  });
}

/** Revokes every token of the admin, and with them its sessions, and returns a new one. */
export async function replaceAdminToken(ctx: AccountsContext): Promise<string> {
  return await ctx.db.$transaction(async (tx) => {
    const account = await holdAdmin(tx);
    await revoke(tx, account.tokens, ctx.now());
    const token = newToken();
    await storeToken(tx, { accountId: account.id, name: ADMIN_TOKEN, token });
    return token;
  });
}

/** Who holds this token; null for one that is unknown, expired or revoked. Looked up by hash, so timing tells nothing. */
export async function authenticateToken(ctx: AccountsContext, token: string): Promise<Authenticated | null> {
  const found = await ctx.db.apiToken.findUnique({
    where: { hash: hashSecret(token) },
    include: { account: { select: VIEWER_FIELDS } },
  });
  if (!found || !isLive(found, ctx.now())) return null;
  if (!found.lastUsedAt || ctx.now().getTime() - found.lastUsedAt.getTime() > LAST_USED_MS) {
    await ctx.db.apiToken.updateMany({ where: { id: found.id }, data: { lastUsedAt: ctx.now() } });
  }
  return { viewer: toViewer(found.account), tokenId: found.id, expiresAt: found.expiresAt };
}

export interface NewSession {
  /** The cookie's value. */
  readonly secret: string;
  /** To be sent back in a header with every mutation. */
  readonly csrf: string;
  readonly expiresAt: Date;
}

/** Exchanges a token for a browser session that ends with the token, or after a week. Throws BAD_TOKEN. */
export async function createSession(ctx: AccountsContext, token: string): Promise<NewSession> {
  const who = await authenticateToken(ctx, token);
  if (!who?.viewer.accountId) {
    throw new AppError(
      "BAD_TOKEN",
      "This token is unknown, expired or revoked. The server makes a new one with `npm start -- --new-admin-token`.",
      { field: "token" },
    );
  }
  const secret = randomBytes(32).toString("base64url");
  const csrf = randomBytes(32).toString("base64url");
  const week = new Date(ctx.now().getTime() + SESSION_MS);
  const expiresAt = who.expiresAt && who.expiresAt < week ? who.expiresAt : week;
  const { accountId } = who.viewer;
  await ctx.db.$transaction([
    ctx.db.session.deleteMany({ where: { accountId, expiresAt: { lte: ctx.now() } } }),
    ctx.db.session.create({
      data: {
        accountId,
        tokenId: who.tokenId,
        hash: hashSecret(secret),
        csrfHash: hashSecret(csrf),
        expiresAt,
      },
    }),
  ]);
  return { secret, csrf, expiresAt };
}

/** Who holds this session cookie; null for one that is unknown or expired, or whose token is. */
export async function authenticateSession(
  ctx: AccountsContext,
  secret: string,
): Promise<AuthenticatedSession | null> {
  const found = await ctx.db.session.findUnique({
    where: { hash: hashSecret(secret) },
    include: { account: { select: VIEWER_FIELDS }, token: true },
  });
  if (!found || found.expiresAt <= ctx.now() || !isLive(found.token, ctx.now())) return null;
  return {
    viewer: toViewer(found.account),
    tokenId: found.tokenId,
    sessionId: found.id,
    csrfHash: found.csrfHash,
    expiresAt: found.expiresAt,
  };
}

/** Whether a request header carries the session's CSRF secret. */
export function checkCsrf(
  session: Pick<AuthenticatedSession, "csrfHash">,
  header: string | undefined,
): boolean {
  if (header === undefined) return false;
  return timingSafeEqual(Buffer.from(hashSecret(header)), Buffer.from(session.csrfHash));
}

/** Signs out; quiet when there is no such session. */
export async function deleteSession(ctx: AccountsContext, secret: string): Promise<void> {
  await ctx.db.session.deleteMany({ where: { hash: hashSecret(secret) } });
}

function isLive(token: { revokedAt: Date | null; expiresAt: Date | null }, now: Date): boolean {
  return token.revokedAt === null && (token.expiresAt === null || token.expiresAt > now);
}

/** A plain hash is enough: tokens are random and long, so there is nothing to guess. */
function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

function newToken(): string {
  return `gw_${randomBytes(32).toString("base64url")}`;
}

async function storeToken(tx: Tx, input: { accountId: string; name: string; token: string }): Promise<void> {
  const { accountId, name, token } = input;
  const hash = hashSecret(token);
  // A preset token may come back after it was replaced by another one.
  await tx.apiToken.upsert({
    where: { hash },
    create: { accountId, name, prefix: token.slice(0, 7), hash },
    update: { revokedAt: null },
  });
}

async function revoke(tx: Tx, tokens: readonly { id: string }[], now: Date): Promise<void> {
  const ids = tokens.map((token) => token.id);
  await tx.apiToken.updateMany({ where: { id: { in: ids } }, data: { revokedAt: now } });
  // A preset token may come back; a browser that once signed in with it must not.
  await tx.session.deleteMany({ where: { tokenId: { in: ids } } });
}
