import { AppError } from "../core/errors.ts";
import { prepareVerify } from "../engine/local.ts";
import { type Difference, runVerify, type VerifyResult } from "../engine/verify.ts";
import { type CommandContext, type Outcome, textOf } from "./command.ts";

/** `verify`: derive again, compare every digest. */
export async function run({ values, positionals, engine, watch }: CommandContext): Promise<Outcome> {
  const started = performance.now();
  const merged = positionals[0]!;
  const base = textOf(values, "base");
  const adapter = textOf(values, "adapter");
  const request = { merged, ...(base && { base }), ...(adapter && { adapter }) };
  const input = await watch(prepareVerify(request, engine));
  const sample = textOf(values, "sample");
  const result = await watch(runVerify({ ...input, ...(sample && { sample: Number(sample) }) }, engine));
  const { differences } = result;
  const failure = differences.length === 0 ? undefined : different(merged, differences);
  return {
    document: {
      ...result,
      timing: { start_s: started / 1000, total_s: (performance.now() - started) / 1000 },
      peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    },
    lines: [
      ...differences.map(differenceLine),
      `${result.verdict}: ${merged}, ${result.tensors} tensors derived again from the base and the adapter`,
      ...(result.sampled ? [`  a sample of ${input.plan.steps.length}: ${result.sampled.join(", ")}`] : []),
      ...distanceLines(result),
      ...(result.digest === null ? [] : [`version ${result.digest}`]),
      `recipe  ${result.recipeDigest}`,
    ],
    ...(failure && { failure }),
  };
}

function distanceLines({ distance }: VerifyResult): string[] {
  if (distance === null) return [];
  const { differing, elements, maxUlp } = distance;
  return [
    `  computed on a device: ${differing} of ${elements} elements differ from the canonical value, ` +
      `by at most ${Number(maxUlp.toPrecision(3))} ulp at the larger of |W| and |W′|`,
  ];
}

function different(folder: string, differences: readonly Difference[]): AppError {
  const [first] = differences;
  const others = differences.length === 1 ? "" : ` and ${differences.length - 1} more`;
  return new AppError(
    "VERIFY_DIFFERENT",
    `${folder} is not what its record says: ${first?.name}${others} (${differences.map((d) => d.what)[0]}). ` +
      "Merge again from the same inputs, or restore the files.",
  );
}

const WORDS: Readonly<Record<Difference["what"], string>> = {
  stored: "the bytes on disk are not the recorded ones",
  derived: "the inputs give other bytes than recorded",
  missing: "is recorded but not there",
  unexpected: "is there but not recorded",
  input: "is another version than recorded",
  file: "is another file than recorded",
};

function differenceLine({ name, what, expected, actual }: Difference): string {
  return `DIFFERENT ${name}: ${WORDS[what]} (expected ${expected ?? "nothing"}, found ${actual ?? "nothing"})`;
}
