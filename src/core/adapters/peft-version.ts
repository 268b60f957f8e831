import type { Json } from "../json.ts";

/**
 * Whether a config was written before a version of PEFT. `peft_version` stands in configs since 0.18; without it they are
 * older. A commit may follow after `@`.
 */
export function versionBefore(version: Json | undefined, [major, minor]: readonly [number, number]): boolean {
  const match = typeof version === "string" ? /^(\d+)\.(\d+)/.exec(version) : null;
  if (!match) return true;
  const [, first, second] = match.map(Number) as [number, number, number];
  return first < major || (first === major && second < minor);
}
