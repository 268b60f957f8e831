import { chmod, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Settings } from "./config.ts";
import { ensureAdmin, replaceAdminToken } from "./registry/accounts.ts";
import type { RegistryContext } from "./registry/context.ts";

/** Where CLI and demo on this machine find the token. */
export function adminTokenFile(home: string): string {
  return join(home, "admin-token");
}

/**
 * Makes the admin and its token at the first start, or a new token where `replace` asks for it, and keeps the token in
 * the home, readable by its owner only. Returns a new token to be shown once, else null.
 */
export async function settleAdminToken(
  registry: RegistryContext,
  settings: Pick<Settings, "home" | "adminToken">,
  replace: boolean,
): Promise<string | null> {
  const { home, adminToken } = settings;
  const made = replace
    ? await replaceAdminToken(registry)
    : (await ensureAdmin(registry, { presetToken: adminToken })).token;
  const token = adminToken ?? made;
  if (token !== null) await writeSecret(adminTokenFile(home), token);
  return made;
}

/** Written beside and renamed: a reader sees the old token or the new one, and nobody else ever either. */
async function writeSecret(file: string, secret: string): Promise<void> {
  const partial = `${file}.${process.pid}`;
  await writeFile(partial, `${secret}\n`, { mode: 0o600 });
  await chmod(partial, 0o600);
  await rename(partial, file);
}
