import type { TensorFacts } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import type { JsonObject } from "../json.ts";
import { type Carried, moduleName } from "./carried-tensors.ts";
import type { AdapterInput, AdapterTarget } from "./index.ts";
import { candidates } from "./names.ts";
import { moduleOf } from "./parts.ts";
import { sameBytes } from "./replaced.ts";
import type { TiedPair } from "./ties.ts";

/** A tied head, which a checkpoint does not store, as a tensor of its own that starts from the embedding. */
export function withHead(base: AdapterInput["base"], pair: TiedPair | null): AdapterInput["base"] {
  if (pair?.stored !== "no") return base;
  return new Map([...base, [pair.head, { ...pair.embedding, name: pair.head }]]);
}

/** Of a tied pair the adapter's copies are copies of one matrix, whichever side they were saved for. */
export function shareCopies(carried: Carried, pair: TiedPair | null, config: JsonObject): void {
  if (!pair) return;
  const { copies, whole } = carried;
  const ensured = config.ensure_weight_tying === true;
  const names = [pair.embedding.name, pair.head];
  // PEFT drops a tied side from modules_to_save and saves it all the same.
  if (ensured && names.some((name) => whole.has(name))) {
    for (const name of names) {
      const copy = copies.get(name);
      if (copy) whole.set(name, { ...copy, role: "whole" });
      copies.delete(name);
    }
  }
  for (const [map, together] of [
    [copies, true],
    [whole, ensured],
  ] as const) {
    const [embedding, head] = names.map((name) => map.get(name));
    if (embedding && head) {
      if (sameBytes(embedding.tensor, head.tensor)) {
        map.set(pair.head, { ...embedding, module: head.module });
        if (head.tensor.name !== embedding.tensor.name) carried.ignored.add(head.tensor.name);
      } else if (together) carried.problems.push(copiesDiffer(embedding.tensor, head.tensor));
    } else if (together && (embedding ?? head)) {
      for (const name of names) map.set(name, (embedding ?? head)!);
    }
  }
  shareRows(carried, pair, config);
}

function copiesDiffer(embedding: TensorFacts, head: TensorFacts): Finding {
  return {
    code: "TIED_COPIES_DIFFER",
    subject: head.name,
    message: `adapter tensors "${embedding.name}" and "${head.name}" are copies of one tied matrix and are not the same: which one training used cannot be told. Save the adapter again from the trained model.`,
  };
}

/** Rows of a tied embedding are rows of the head as well, unless the head has its own. */
function shareRows({ rows, ignored, problems }: Carried, pair: TiedPair, config: JsonObject): void {
  const [embedding, head] = [rows.get(pair.embedding.name), rows.get(pair.head)];
  if (!embedding) return;
  if (!head) rows.set(pair.head, embedding);
  else if (embedding.rows.join() === head.rows.join() && sameBytes(embedding.to, head.to)) {
    rows.set(pair.head, { ...embedding, module: head.module });
    ignored.add(head.to.name);
  } else if (config.peft_type === "TRAINABLE_TOKENS" || config.ensure_weight_tying === true) {
    problems.push(copiesDiffer(embedding.to, head.to));
  }
}

export interface TiedFactors {
  /** The head takes the embedding's change: its own factors are the same ones, transposed. */
  readonly shared: boolean;
  /** Module of the head, to be targeted beside what the config names. */
  readonly head: string | null;
  readonly warnings: Finding[];
}

/**
 * With `ensure_weight_tying` PEFT stores the embedding's factors a second time, transposed, for the head, without naming
 * the head in target_modules, and its merge adds the one change twice to the one matrix.
 */
export function tieFactors({
  carried,
  pair,
  input,
}: {
  carried: Carried;
  pair: TiedPair;
  input: AdapterInput;
}): TiedFactors | null {
  if (input.config.ensure_weight_tying !== true) return null;
  // The file has names in memory, and the pair those of the checkpoint.
  const of = (weight: string) => carried.rest.filter((tensor) => adaptedBy(tensor, input) === weight);
  const [embedding, second] = [moduleName(pair.embedding.name), of(pair.head)];
  const head = second[0] && factorModule(second[0], input);
  if (!head || of(pair.embedding.name).length === 0) return null;
  if (input.ties === "peft") return { shared: false, head, warnings: [] };
  for (const tensor of second) carried.ignored.add(tensor.name);
  carried.rest.splice(0, carried.rest.length, ...carried.rest.filter((tensor) => !second.includes(tensor)));
  const message =
    `the adapter keeps ${embedding} and ${head} tied (ensure_weight_tying) and holds the one change twice: it is added once, as the adapted model computes it. ` +
    'PEFT\'s merge adds it twice; ties "peft" does the same.';
  return { shared: true, head: null, warnings: [{ code: "TIED_CHANGE_ONCE", subject: head, message }] };
}

function factorModule({ name }: TensorFacts, input: AdapterInput): string | null {
  const path = /^(.+?)\.lora_/.exec(name)?.[1];
  return path === undefined ? null : moduleOf(path, input);
}

/** The base tensor that a factor changes. */
function adaptedBy(tensor: TensorFacts, input: AdapterInput): string | null {
  const module = factorModule(tensor, input);
  const found = module === null ? [] : candidates(input, `${module}.weight`);
  return found.length === 1 ? found[0]!.tensor.name : null;
}

/** The head with the embedding's change: one matrix in training. */
export function withTiedHead(targets: readonly AdapterTarget[], pair: TiedPair): AdapterTarget[] {
  const embedding = targets.find(({ tensor }) => tensor === pair.embedding.name);
  if (!embedding || targets.some(({ tensor }) => tensor === pair.head)) return [...targets];
  return [...targets, { ...embedding, tensor: pair.head, module: moduleName(pair.head) }];
}
