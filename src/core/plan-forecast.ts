import type { AdapterTarget } from "./adapters/index.ts";
import type { LocatedTensor } from "./checkpoint.ts";
import { elementCount, isMergeable } from "./dtype.ts";
import type { Finding } from "./errors.ts";
import { asLowRankUpdate, type Expr } from "./expr.ts";
import { type DeltaForecast, forecastRounding, overallError } from "./forecast.ts";
import type { PlanStep } from "./plan-layout.ts";

type Tensors = ReadonlyMap<string, LocatedTensor>;

/** By output tensor. Only low-rank changes of tensors with known statistics have one. */
export function forecasts(
  steps: readonly PlanStep[],
  base: Tensors,
  sources: readonly Tensors[],
): Map<string, DeltaForecast> {
  const found = new Map<string, DeltaForecast>();
  for (const step of steps) {
    const update = step.expr && asLowRankUpdate(step.expr);
    if (!update || !isMergeable(step.dtype)) continue;
    const weightRms = base.get(update.base)?.stats?.rms;
    const norm = normOf(update.left, sources) ?? normOf(update.right, sources);
    if (weightRms === undefined || weightRms === null || norm === null) continue;
    const deltaRms = (Math.abs(update.scale) * norm) / Math.sqrt(elementCount(step.shape));
    found.set(step.tensor, forecastRounding(weightRms, deltaRms, step.dtype));
  }
  return found;
}

/** The norm that was measured for a stored lora_B, whichever way round it stands in the product. */
function normOf(side: Expr, sources: readonly Tensors[]): number | null {
  const leaf = side.op === "permute" ? side.of : side;
  return leaf.op === "source" ? (sources[leaf.source]?.get(leaf.tensor)?.updateNorm ?? null) : null;
}

/** Above this, what rounding adds is a noticeable part of what the adapter learnt. */
const NOTICEABLE = 0.25;

/** Says when much of the change would be lost, and what to do instead. */
export function forecastWarnings(
  targets: readonly AdapterTarget[],
  steps: readonly PlanStep[],
  known: ReadonlyMap<string, DeltaForecast>,
): Finding[] {
  const elements = new Map(steps.map((step) => [step.tensor, elementCount(step.shape)]));
  const error = overallError(
    targets.map(({ tensor }) => ({
      forecast: known.get(tensor) ?? null,
      elements: elements.get(tensor) ?? 0,
    })),
  );
  if (error === null || error < NOTICEABLE) return [];
  const lost = `${Math.round(error * 100)} % of its own size`;
  return [
    {
      code: "DELTA_ROUNDS_AWAY",
      subject: "dtype",
      message:
        `rounding into the output's type is expected to add noise of ${lost} to the change. ` +
        "Merge with dtype F32, serve the adapter beside the base, or check the merged model's answers before you use it.",
    },
  ];
}
