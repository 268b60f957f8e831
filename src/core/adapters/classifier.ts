import type { ModelFacts } from "../arch.ts";
import type { LocatedTensor } from "../checkpoint.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import type { AdapterTarget } from "./index.ts";
import { vocabularyPair, WHOLE_MODULE } from "./ties.ts";

export interface AddedHead {
  /** adapter_config.json. */
  readonly adapter: JsonObject;
  /** config.json of the base. */
  readonly config: JsonObject;
  readonly base: ReadonlyMap<string, LocatedTensor>;
  readonly model: ModelFacts;
  /** What a merge changes, adds or replaces. */
  readonly targets: readonly AdapterTarget[];
}

export interface Classifier {
  /** Fields of config.json that change. */
  readonly config: Readonly<Record<string, Json>>;
  /** Tensors of the base that the class of a classifier does not have. */
  readonly dropped: ReadonlySet<string>;
}

const CLASSES: Readonly<Record<string, string>> = {
  SEQ_CLS: "ForSequenceClassification",
  TOKEN_CLS: "ForTokenClassification",
  QUESTION_ANS: "ForQuestionAnswering",
};
/** What the class names of a family end in, which transformers shares among its tasks. */
const TASK = /(For[A-Z]\w*|LMHeadModel|DoubleHeadsModel|Model)$/;
/** The layer with a row for each label, whose number transformers keeps as labels in config.json. */
const LABELS = /(^|\.)(score|classifier|classifier\.out_proj)\.weight$/;

/**
 * What changes about a base that gains the head of a classifier: the class is the one that the adapter was trained with,
 * which has no head over the vocabulary, and as many labels as the new head has rows; told of none, transformers builds a
 * head of two.
 */
export function classifierOf({ adapter, config, base, model, targets }: AddedHead): Classifier {
  const task = adapter.task_type;
  const ending = typeof task === "string" && Object.hasOwn(CLASSES, task) ? CLASSES[task]! : null;
  const added = targets.filter(({ tensor, change }) => change === WHOLE_MODULE && !base.has(tensor));
  if (ending === null || added.length === 0) return { config: {}, dropped: new Set() };
  const changes: Record<string, Json> = {};
  const dropped = new Set<string>();
  if (model.architecture !== null && TASK.test(model.architecture)) {
    changes.architectures = [model.architecture.replace(TASK, ending)];
    const head = vocabularyPair(base, model)?.head ?? "";
    for (const name of [head, head.replace(/weight$/, "bias")]) if (base.has(name)) dropped.add(name);
  }
  const labels = added.find(({ tensor }) => LABELS.test(tensor))?.shape?.[0];
  if (labels === undefined || labels === labelsOf(config)) return { config: changes, dropped };
  const numbers = Array.from({ length: labels }, (_, i) => i);
  changes.id2label = Object.fromEntries(numbers.map((i) => [String(i), `LABEL_${i}`]));
  changes.label2id = Object.fromEntries(numbers.map((i) => [`LABEL_${i}`, i]));
  return { config: changes, dropped };
}

function labelsOf({ id2label, num_labels }: JsonObject): number {
  if (isJsonObject(id2label)) return Object.keys(id2label).length;
  return typeof num_labels === "number" ? num_labels : 2;
}
