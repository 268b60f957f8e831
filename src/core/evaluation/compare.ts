import type { Finding } from "../errors.ts";
import { canonicalJson } from "../identity.ts";
import { type NamedNumber, numbersOf } from "./numbers.ts";
import type { EvaluationReport, Metric, Verdict } from "./report.ts";

export interface ComparedNumber extends Pick<NamedNumber, "key" | "level" | "label" | "form"> {
  /** Null where that evaluation did not measure it. */
  readonly a: Metric | null;
  readonly b: Metric | null;
  /** b − a; null unless both have it. */
  readonly difference: number | null;
  /** Whether the two 95 % intervals have a number in common; null unless both have one. */
  readonly overlap: boolean | null;
}

export interface EvaluationComparison {
  readonly verdicts: { readonly a: Verdict; readonly b: Verdict };
  /** Null where a side's digests are not known. */
  readonly same: {
    readonly reference: boolean | null;
    readonly candidate: boolean | null;
    readonly texts: boolean | null;
    readonly gate: boolean;
  };
  /** Why differences between the numbers may not be differences between the candidates. */
  readonly warnings: readonly Finding[];
  readonly numbers: readonly ComparedNumber[];
}

/** Puts two evaluations side by side: what was compared, what may not be compared, and each number with its difference. */
export function compareEvaluations(a: EvaluationReport, b: EvaluationReport): EvaluationComparison {
  return {
    verdicts: { a: a.verdict, b: b.verdict },
    same: {
      reference: sameReference(a, b),
      candidate: sameBytes(a.candidate, b.candidate),
      texts: a.texts && b.texts ? a.texts.digest === b.texts.digest : null,
      gate: a.gateDigest === b.gateDigest,
    },
    warnings: warningsOf(a, b),
    numbers: comparedNumbers(numbersOf(a), numbersOf(b)),
  };
}

type Input = EvaluationReport["reference"]["base"];

/** Equal if what is known of both is equal; null where nothing is known of both. */
function sameBytes(a: Input, b: Input): boolean | null {
  if (a.version !== null && b.version !== null) return a.version === b.version;
  if (a.weights !== null && b.weights !== null) return a.weights === b.weights;
  return null;
}

function sameReference(
  { reference: a }: EvaluationReport,
  { reference: b }: EvaluationReport,
): boolean | null {
  if (a.sources.length !== b.sources.length) return false;
  if (a.sources.some((source, i) => source.weight !== b.sources[i]!.weight)) return false;
  const parts = [
    sameBytes(a.base, b.base),
    ...a.sources.map((source, i) => sameBytes(source, b.sources[i]!)),
  ];
  return parts.includes(false) ? false : parts.includes(null) ? null : true;
}

function warningsOf(a: EvaluationReport, b: EvaluationReport): Finding[] {
  const found: Finding[] = [];
  const warn = (code: string, subject: string, message: string) => found.push({ code, subject, message });
  const reference = sameReference(a, b);
  if (reference === false) {
    warn(
      "OTHER_REFERENCE",
      "reference",
      "The two evaluations compare with another base, adapter or weight: their numbers answer different questions.",
    );
  } else if (reference === null) {
    warn(
      "UNKNOWN_REFERENCE",
      "reference",
      "Not every digest of the references is known: whether they are the same cannot be told.",
    );
  }
  textWarnings(a, b, warn);
  if (
    a.text &&
    b.text &&
    (canonicalJson(prompts(a)) !== canonicalJson(prompts(b)) || a.text.maxNewTokens !== b.text.maxNewTokens)
  ) {
    warn("OTHER_PROMPTS", "text", "The two evaluations continued other prompts, or to another length.");
  }
  if (a.tasks && b.tasks && (a.tasks.digest !== b.tasks.digest || a.tasks.rule !== b.tasks.rule)) {
    warn(
      "OTHER_TASKS",
      "tasks",
      `The two evaluations answered other tasks: ${a.tasks.name} and ${b.tasks.name}.`,
    );
  }
  environmentWarnings(a, b, warn);
  if (a.gateDigest !== b.gateDigest) {
    const name = ({ gate }: EvaluationReport) => `${gate.name}@${gate.version}`;
    warn(
      "OTHER_GATE",
      "gate",
      `The verdicts rest on other gates: ${name(a)} and ${name(b)}. The numbers do not.`,
    );
  }
  return found;
}

type Warn = (code: string, subject: string, message: string) => void;

function textWarnings(a: EvaluationReport, b: EvaluationReport, warn: Warn): void {
  if (!a.texts || !b.texts) return;
  if (a.texts.digest !== b.texts.digest) {
    warn(
      "OTHER_TEXTS",
      "texts",
      `The two evaluations read other texts: ${a.texts.name} and ${b.texts.name}. Level 2 depends on the texts.`,
    );
  }
  if (a.texts.tokenizer !== b.texts.tokenizer) {
    warn(
      "OTHER_TOKENIZER",
      "texts.tokenizer",
      "The texts were cut into tokens by other tokenizers: predictions do not stand for the same text.",
    );
  }
  if (a.texts.window !== b.texts.window || a.texts.stride !== b.texts.stride) {
    const size = ({ window, stride }: NonNullable<EvaluationReport["texts"]>) =>
      `${window} tokens with a stride of ${stride}`;
    warn(
      "OTHER_WINDOW",
      "texts.window",
      `Long texts were read through other windows: ${size(a.texts)}, and ${size(b.texts)}.`,
    );
  }
  if (a.texts.specialTokens !== b.texts.specialTokens || a.texts.chatTemplate !== b.texts.chatTemplate) {
    warn(
      "OTHER_TEMPLATE",
      "texts.chatTemplate",
      "Special tokens or the chat template were added in one of the evaluations only.",
    );
  }
}

function environmentWarnings(a: EvaluationReport, b: EvaluationReport, warn: Warn): void {
  const device = ({ environment: e }: EvaluationReport) => `${e.device} (${e.provider}, ${e.processor})`;
  if (device(a) !== device(b)) {
    warn(
      "OTHER_DEVICE",
      "environment.device",
      `The two evaluations ran on other devices: ${device(a)}, and ${device(b)}. Differences near the noise floor mean nothing.`,
    );
  }
  const program = ({ environment: e }: EvaluationReport) => `Graftwork ${e.graftwork} with ${e.runtime}`;
  if (program(a) !== program(b)) {
    warn(
      "OTHER_PROGRAM",
      "environment.graftwork",
      `The two evaluations were made by other programs: ${program(a)}, and ${program(b)}.`,
    );
  }
}

function prompts({ text }: EvaluationReport): string[] {
  return text?.prompts.map((entry) => entry.prompt) ?? [];
}

function comparedNumbers(a: readonly NamedNumber[], b: readonly NamedNumber[]): ComparedNumber[] {
  const ofB = new Map(b.map((number) => [number.key, number]));
  const ofA = new Set(a.map((number) => number.key));
  // Those that only b has come last within their level.
  const all = [...a, ...b.filter(({ key }) => !ofA.has(key))].sort((x, y) => x.level - y.level);
  return all.map(({ key, level, label, form, metric }) => {
    const left = ofA.has(key) ? metric : null;
    const right = ofB.get(key)?.metric ?? null;
    return {
      key,
      level,
      label,
      form,
      a: left,
      b: right,
      difference: left && right ? right.value - left.value : null,
      overlap: overlap(left, right),
    };
  });
}

function overlap(a: Metric | null, b: Metric | null): boolean | null {
  if (!a?.interval || !b?.interval) return null;
  return a.interval[0] <= b.interval[1] && b.interval[0] <= a.interval[1];
}
