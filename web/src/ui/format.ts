/** Numbers and times as people read them. Pure; units are always part of the text. */

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** Bytes in decimal units, three significant digits: `13.4 MB`. Accepts the text of a BigInt scalar. */
export function formatBytes(bytes: number | bigint | string): string {
  return scaled(Number(bytes), BYTE_UNITS);
}

/** A count in words' units: `1.10 B` parameters. */
export function formatCount(count: number | bigint | string): string {
  return scaled(Number(count), ["", "K", "M", "B", "T"]);
}

function scaled(value: number, units: readonly string[]): string {
  let unit = 0;
  let rest = value;
  // 999.5 would round to "1000": it belongs to the next unit.
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  const digits = unit === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${rest.toFixed(digits)} ${units[unit]}`.trimEnd();
}

/** `12,345`. */
export function formatWhole(count: number | bigint | string): string {
  return Number(count).toLocaleString("en");
}

/** Seconds as `0.8 s`, `41 s`, `3 min 05 s`, `2 h 07 min`. */
export function formatDuration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pad = (n: number) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
}

const STEPS: readonly [limit: number, seconds: number, unit: Intl.RelativeTimeFormatUnit][] = [
  [60, 1, "second"],
  [3600, 60, "minute"],
  [86_400, 3600, "hour"],
  [30 * 86_400, 86_400, "day"],
  [365 * 86_400, 30 * 86_400, "month"],
  [Number.POSITIVE_INFINITY, 365 * 86_400, "year"],
];

/** `3 minutes ago`; both times in milliseconds since 1970. */
export function formatRelative(then: number, now: number): string {
  const seconds = Math.round((then - now) / 1000);
  if (Math.abs(seconds) < 5) return "just now";
  const [, size, unit] = STEPS.find(([limit]) => Math.abs(seconds) < limit)!;
  return new Intl.RelativeTimeFormat("en", { numeric: "always" }).format(Math.trunc(seconds / size), unit);
}

/** `2026-11-24 09:55:04 UTC`. */
export function formatUtc(iso: string): string {
  return `${new Date(iso).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `sha256:1a2b3c4d5e6f`: enough to tell versions apart by eye. */
export function shortDigest(digest: string): string {
  return digest.slice(0, "sha256:".length + 12);
}

/** `RUN_MERGE` → `run merge`. */
export function words(code: string): string {
  return code.toLowerCase().replaceAll("_", " ");
}

/** `plan` → `Plan`, `run merge` → `Run merge`. */
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
