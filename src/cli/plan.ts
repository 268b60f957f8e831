import { refusal } from "../core/errors.ts";
import type { MergePlan } from "../core/plan.ts";
import { planLocal } from "../engine/local.ts";
import type { CommandContext, Outcome } from "./command.ts";
import { bytes, plain, table } from "./format.ts";
import { findingLines, localMerge } from "./request.ts";

/** `plan`: what a merge would do; all refusals at once. */
export async function run({ values, engine, watch }: CommandContext): Promise<Outcome> {
  const request = localMerge(values);
  // Only a pinned base, or one whose weights are measured, has to be read whole to be planned.
  const measure = values.forecast === true;
  const digestBase = measure || request.pins?.base != null;
  const { plan } = await watch(planLocal(request, { ...engine, digestBase, measure }));
  const failure = plan.refusals.length > 0 ? refusal("this merge is refused", plan.refusals) : undefined;
  return {
    document: planDocument(plan),
    lines: planLines(plan),
    ...(failure && { failure }),
  };
}

/** The plan as JSON, without expressions and headers. */
export function planDocument(plan: MergePlan) {
  return {
    runnable: plan.refusals.length === 0,
    tensorCount: plan.steps.length,
    touched: plan.touched,
    outputs: plan.shards.map(({ path, size }) => ({ path, size })),
    leftOut: plan.leftOut,
    coverage: plan.coverage,
    files: plan.files.map(({ path, from, size }) => ({ path, from, size })),
    tokenizer: plan.tokenizer,
    bytesToRead: plan.bytesToRead,
    bytesToWrite: plan.bytesToWrite,
    memory: plan.memory,
    warnings: plan.warnings,
    refusals: plan.refusals,
  };
}

function planLines(plan: MergePlan): string[] {
  const { tokenizer } = plan;
  const differs =
    tokenizer.differences.length === 0 ? "" : `; differs in ${tokenizer.differences.join(", ")}`;
  return [
    `touches ${plan.touched.length} of ${plan.steps.length} tensors:`,
    ...touchedTable(plan),
    ...(plan.leftOut.length > 0
      ? [`leaves out ${plan.leftOut.length} modules: ${plan.leftOut.join(", ")}`]
      : []),
    "writes:",
    ...table([
      ...plan.shards.map((shard) => [`  ${shard.path}`, bytes(shard.size)]),
      ...plan.files.map((file) => [
        `  ${file.path}`,
        bytes(file.size),
        file.from === "plan" ? "changed" : `from the ${file.from}`,
      ]),
    ]),
    `reads ${bytes(plan.bytesToRead)}, writes ${bytes(plan.bytesToWrite)}; at most ${bytes(plan.memory.process)} of memory and ${bytes(plan.memory.thread)} a thread`,
    `tokenizer: the ${tokenizer.from}'s${differs}`,
    ...findingLines("warning", plan.warnings),
    ...findingLines("refused", plan.refusals),
    plan.refusals.length === 0 ? "This merge can run." : "This merge is refused.",
  ];
}

const percent = (share: number) => `${(share * 100).toPrecision(2)} %`;

/** With a forecast: how much noise rounding adds to each change, and how many elements will not move. */
function touchedTable({ touched }: MergePlan): string[] {
  const measured = touched.some(({ forecast }) => forecast !== null);
  return table([
    ["  module", "change", "rank", "alpha", "scale", ...(measured ? ["rounding", "unmoved"] : [])],
    ...touched.map(({ module, change, rank, alpha, scale, forecast }) => [
      `  ${module}`,
      change,
      ...[rank, alpha, scale].map(plain),
      ...(forecast ? [percent(forecast.relativeError), percent(forecast.unchangedShare)] : []),
    ]),
  ]);
}
