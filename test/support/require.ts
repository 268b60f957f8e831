import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What some tests need and not every machine has. */
export type Requirement = "browser" | "webgpu" | "tmpfs" | "root" | "curl" | "python";

/** The software Vulkan driver that Debian's chromium ships. */
export const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of a Chromium to drive, or `null`. */
export function chromiumPath(): string | null {
  return (
    [process.env.CHROMIUM_PATH ?? "", ...CHROMIUM].find((path) => path !== "" && existsSync(path)) ?? null
  );
}

const PROBES: Record<Requirement, () => boolean> = {
  browser: () => chromiumPath() !== null,
  // Or a driver that the user names.
  webgpu: () => process.env.VK_DRIVER_FILES !== undefined || existsSync(SWIFTSHADER),
  tmpfs: canMountTmpfs,
  root: isRoot,
  curl: () => answers("curl", "--version"),
  python: () => answers("python3", "--version"),
};

function answers(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

function canMountTmpfs(): boolean {
  if (process.platform !== "linux" || !isRoot()) return false;
  const folder = mkdtempSync(join(tmpdir(), "graftwork-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], { stdio: "ignore" });
    execFileSync("umount", [folder], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  } finally {
    rmdirSync(folder);
  }
}

/**
 * Whether the machine has it. What `GRAFTWORK_REQUIRE` (a comma-separated list) names must be there: its absence is an
 * error instead of a skipped test.
 */
export function requirement(name: Requirement): boolean {
  const present = PROBES[name]();
  const required = (process.env.GRAFTWORK_REQUIRE ?? "").split(",").includes(name);
  if (!present && required) throw new Error(`GRAFTWORK_REQUIRE names ${name}, which this machine lacks`);
  return present;
}
