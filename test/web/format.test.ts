import { describe, expect, test } from "vitest";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatRelative,
  formatUtc,
  shortDigest,
} from "../../web/src/ui/format.ts";

describe("numbers as people read them", () => {
  test.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [12_345_678, "12.3 MB"],
    [999_600, "1.00 MB"],
    ["2200000000", "2.20 GB"],
    [5n * 10n ** 17n, "500 PB"],
  ])("%s bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test("counts carry K, M and B, small ones nothing", () => {
    expect([formatCount(512), formatCount(1_101_004_800), formatCount("2345678")]).toEqual([
      "512",
      "1.10 B",
      "2.35 M",
    ]);
  });

  test("durations change unit as they grow", () => {
    expect([0.84, 41.2, 59.7, 185, 7620].map(formatDuration)).toEqual([
      "0.8 s",
      "41 s",
      "1 min 00 s",
      "3 min 05 s",
      "2 h 07 min",
    ]);
  });

  test("times are relative, with the exact UTC beside them", () => {
    const now = Date.UTC(2026, 10, 24, 12);
    expect(formatRelative(now - 2000, now)).toBe("just now");
    expect(formatRelative(now - 185_000, now)).toBe("3 minutes ago");
    expect(formatRelative(now - 26 * 3_600_000, now)).toBe("1 day ago");
    expect(formatUtc("2026-11-24T09:55:04.123Z")).toBe("2026-11-24 09:55:04 UTC");
  });

  test("a digest keeps its algorithm and twelve digits", () => {
    expect(shortDigest(`sha256:${"ab".repeat(32)}`)).toBe("sha256:abababababab");
  });
});
