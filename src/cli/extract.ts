import { readNames } from "../core/selection-text.ts";
import { runExtract } from "../engine/extract.ts";
import { CLI_DTYPES } from "./choices.ts";
import { type CommandContext, type Outcome, textOf } from "./command.ts";
import { table } from "./format.ts";

const percent = (share: number) => `${(share * 100).toFixed(4)} %`;

/** `extract`: the difference of two checkpoints as an adapter. */
export async function run({ values, engine, watch }: CommandContext): Promise<Outcome> {
  const dtype = textOf(values, "dtype") as keyof typeof CLI_DTYPES | undefined;
  const target = textOf(values, "target");
  const base = textOf(values, "base")!;
  const summary = await watch(
    runExtract(
      {
        base,
        tuned: textOf(values, "tuned")!,
        output: textOf(values, "out")!,
        rank: Number(textOf(values, "rank")),
        targets: target === undefined ? null : readNames(target),
        dtype: dtype === undefined ? "F32" : CLI_DTYPES[dtype],
        baseName: textOf(values, "base-name") ?? base,
        seed: 0,
      },
      engine,
    ),
  );
  const worst = [...summary.modules].sort((a, b) => a.energyKept - b.energyKept).slice(0, 5);
  return {
    document: { ...summary, peak_rss_bytes: process.resourceUsage().maxRSS * 1024 },
    lines: [
      `extracted ${summary.modules.length} modules: ${summary.output}`,
      `keeps ${percent(summary.energyKept)} of the change's energy; least:`,
      ...table(worst.map(({ module, energyKept }) => [`  ${module}`, percent(energyKept)])),
      ...summary.leftBehind.map(({ name, why }) => `left behind ${name}: it differs, and is ${why}`),
    ],
  };
}
