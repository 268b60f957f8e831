import type { DeviceName } from "../core/devices.ts";
import { localMergeInput, planLocal } from "../engine/local.ts";
import { type MergeSummary, runMerge } from "../engine/merge.ts";
import { type CommandContext, type Outcome, textOf } from "./command.ts";
import { bytes, count, seconds } from "./format.ts";
import { findingLines, localMerge } from "./request.ts";

interface Timing {
  /** Until the command started: Node itself and the modules. Not part of the total. */
  start_s: number;
  /** Reading headers, digesting the adapter, planning. */
  plan_s: number;
  execute_s: number;
  digest_s: number;
  check_s: number;
  sync_s: number;
  /** All of the command, the smaller steps between the others included. */
  total_s: number;
}

/** `merge`: plan, run, check, publish. */
export async function run({ values, engine, watch }: CommandContext): Promise<Outcome> {
  const started = performance.now();
  const request = localMerge(values);
  const device = (textOf(values, "device") ?? "cpu") as DeviceName;
  const planned = await watch(planLocal(request, engine));
  const plan_s = (performance.now() - started) / 1000;
  const input = await localMergeInput(request, planned, values.out as string);
  const summary = await watch(runMerge({ ...input, ...(device !== "cpu" && { device }) }, engine));
  const timing: Timing = {
    start_s: started / 1000,
    plan_s,
    ...summary.timing,
    total_s: (performance.now() - started) / 1000,
  };
  const peak = process.resourceUsage().maxRSS * 1024;
  const warnings = [...planned.plan.warnings, ...summary.report.warnings];
  return {
    document: {
      output: summary.output,
      digests: summary.digests,
      recipeDigest: summary.recipeDigest,
      recipe: summary.recipe,
      tensors: planned.plan.steps.length,
      touched: planned.plan.touched.length,
      changedElements: summary.changedElements,
      bytesWritten: planned.plan.bytesToWrite,
      report: summary.report,
      device: summary.device,
      warnings,
      timing,
      peak_rss_bytes: peak,
      threads: engine.threads,
    },
    lines: [
      `merged ${request.adapter} into ${request.base}: ${summary.output}`,
      `  ${planned.plan.touched.length} of ${planned.plan.steps.length} tensors, ${count(summary.changedElements)} elements changed`,
      ...digestLines(summary),
      ...checkLines(summary),
      ...findingLines("warning", warnings),
      `${seconds(timing.total_s)}: plan ${seconds(plan_s)}, merge ${seconds(timing.execute_s)}, digests ${seconds(timing.digest_s)}, ` +
        `check ${seconds(timing.check_s)}, sync ${seconds(timing.sync_s)}; at most ${bytes(peak)} of memory`,
    ],
  };
}

function digestLines({ digests, recipeDigest }: MergeSummary): string[] {
  return [`version ${digests.version}`, `weights ${digests.weights}`, `recipe  ${recipeDigest}`];
}

function checkLines({ report }: MergeSummary): string[] {
  return [
    `check ${report.verdict}`,
    ...report.checks.map((check) => `  ${check.passed ? "ok  " : "FAIL"} ${check.name}: ${check.detail}`),
  ];
}
