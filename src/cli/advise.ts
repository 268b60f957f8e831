import { basename } from "node:path";
import type { DeviceName } from "../core/devices.ts";
import type { ServingAdvice } from "../core/evaluation/advice.ts";
import { DEFAULT_GATE } from "../core/evaluation/gates.ts";
import { parseTexts } from "../core/evaluation/texts.ts";
import { counted, figure, metricText } from "../core/evaluation/wording.ts";
import { adviseServing } from "../engine/evaluation/advice.ts";
import { locateMerged, locateReference, readGate } from "../engine/evaluation/local.ts";
import { recordedChoices } from "../engine/local.ts";
import { readText } from "../storage/folder.ts";
import { choosesRecipe } from "./choices.ts";
import { type CommandContext, numberOf, type Outcome, textOf } from "./command.ts";
import { bytes, table } from "./format.ts";
import { adaptersOf, choicesOf, pinsOf } from "./reference.ts";
import { findingLines } from "./request.ts";

/** `advise`: merged or separate? */
export async function run({ values, engine, watch }: CommandContext): Promise<Outcome> {
  const path = (name: string) => textOf(values, name) ?? null;
  const texts = path("texts");
  const gate = path("gate");
  const asked = {
    texts: texts === null ? null : parseTexts(basename(texts), await readText(texts)),
    gate: gate === null ? DEFAULT_GATE : await readGate(gate),
    device: (textOf(values, "device") ?? "cpu") as DeviceName,
  };
  const base = textOf(values, "base")!;
  const adapters = await adaptersOf(values);
  const mergedFolder = path("merged");
  const merged = mergedFolder === null ? null : await locateMerged(mergedFolder, engine);
  const recorded =
    mergedFolder === null || choosesRecipe(values) ? null : await recordedChoices(mergedFolder);
  const found = await watch(locateReference({ base, adapters, pins: pinsOf(values) }, engine));
  const weights = adapters.map(({ weight }) => weight);
  const advice = await watch(
    adviseServing(
      {
        base: found.base,
        sources: found.sources,
        merged,
        choices: { ...(recorded ?? choicesOf(values)), weights },
        labels: { base, sources: adapters.map(({ folder }) => folder), merged: mergedFolder },
        planned: numberOf(values, "adapters") ?? 1,
        ...asked,
      },
      engine,
    ),
  );
  const warnings = [...found.notices, ...(merged?.notices ?? [])];
  return {
    document: { ...advice, warnings },
    lines: [...adviceLines(advice), ...findingLines("warning", warnings)],
  };
}

/** An advice for a terminal: a table of both choices, then what follows from it. */
export function adviceLines(advice: ServingAdvice): string[] {
  const { recommendation, reasons, breakEven, commands, planned } = advice;
  const from = (n: number | null) => (n === null ? "never" : `from ${counted(n, "adapter")} on`);
  return [
    ...table([["", "separate", "merged"], ...rows(advice)]),
    ...(advice.disk.merged === null
      ? []
      : [
          `separate takes less disk ${from(breakEven.disk)}, less memory ${from(breakEven.memory)}; ${planned} will be served`,
        ]),
    "",
    `${recommendation === "MERGE" ? "merge it" : "keep it separate"}:`,
    ...reasons.map(({ favours, message }) => `  ${SIGNS[favours ?? "NONE"]} ${message}`),
    "",
    `merged:   ${commands.merged}${advice.mergedExists ? "" : "  # once it is merged: --out merged"}`,
    `separate: ${commands.separate ?? "vLLM would not serve it beside its base"}`,
  ];
}

const SIGNS = { MERGE: "merge   ", SEPARATE: "separate", NONE: "        " } as const;

function rows({ disk, memory, times, parity, mergedExists }: ServingAdvice): string[][] {
  const planned = mergedExists ? "" : " (planned)";
  const size = ({ base, adapter, merged }: ServingAdvice["disk"]) => [
    `${bytes(base)} + ${bytes(adapter)} an adapter`,
    merged === null ? "not known" : `${bytes(merged)} each${planned}`,
  ];
  const time = (name: string, key: keyof NonNullable<typeof times>["merged"]) =>
    times === null ? [] : [[name, ms(times.separate[key]), ms(times.merged[key])]];
  return [
    ["on disk", ...size(disk)],
    ["weights in memory", ...size(memory)],
    ...time("to load", "load"),
    ...time(`to the first token of ${times?.promptTokens}`, "prefill"),
    ...time("a token", "perToken"),
    ...(parity?.meanKld ? [["mean KLD, nats", "the reference", metricText(parity.meanKld, "figure")]] : []),
    ...(parity?.sameTop ? [["same most likely token", "", metricText(parity.sameTop, "share")]] : []),
  ];
}

const ms = (value: number) => `${figure(Number(value.toPrecision(3)))} ms`;
