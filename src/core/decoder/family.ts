import type { Fields } from "./fields.ts";
import type { ModelSpec } from "./spec.ts";
import type { Tensors } from "./tensors.ts";

/** What is read of a model: fields of its config.json, and its tensors. */
export interface Source {
  readonly fields: Fields;
  readonly tensors: Tensors;
  readonly task: Task;
}

/** What the model's head is for. */
export type Task = "vocabulary" | "classes";

/** One `model_type`. */
export interface Family {
  /** Class names in `architectures` → the head they have. */
  readonly classes: Readonly<Record<string, Task>>;
  /** How the name of a tensor of layer 0 begins. */
  readonly layer: string;
  /** What may stand in front of the model's tensors, and of the head's. */
  readonly prefixes: readonly (readonly [model: string, head: string])[];
  /** The head's module. */
  readonly heads: Readonly<Partial<Record<Task, string>>>;
  /** Fields that transformers does not look at for this family, though others do. */
  readonly unread?: readonly string[];
  read(source: Source): ModelSpec;
}

/** Of decoders whose modules are called as Llama's. */
export const LLAMA_NAMES = {
  layer: "layers.0.",
  prefixes: [
    ["model.", ""],
    ["", ""],
    ["model.language_model.", ""],
    ["language_model.model.", "language_model."],
  ],
  heads: { vocabulary: "lm_head", classes: "score" },
} as const satisfies Partial<Family>;

/** The classes of a family that has both heads. */
export function bothHeads(name: string): Record<string, Task> {
  return { [`${name}ForCausalLM`]: "vocabulary", [`${name}ForSequenceClassification`]: "classes" };
}
