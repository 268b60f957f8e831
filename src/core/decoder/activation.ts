import type { Fields } from "./fields.ts";
import type { Activation } from "./spec.ts";

/** Names in configs → what they compute. The spellings of the tanh approximation differ in rounding only. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_python: "gelu",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu_accurate: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_python_tanh: "gelu_tanh",
  relu: "relu",
  relu2: "relu2",
  tanh: "tanh",
};

const SPELLINGS = ["hidden_act", "hidden_activation", "activation_function"];

/**
 * The activation that a family reads from `name`. A config that names another one in a field of another family is
 * refused: one of the two is not what the model was trained with.
 */
export function readActivation(fields: Fields, name: string, absent: string): Activation {
  const read = (field: string) => {
    const value = fields.text(field, absent);
    const known = Object.hasOwn(ACTIVATIONS, value) ? ACTIVATIONS[value]! : null;
    if (known === null) {
      throw fields.refused(field, `known activations are ${Object.keys(ACTIVATIONS).join(", ")}`);
    }
    return known;
  };
  const chosen = read(name);
  for (const other of SPELLINGS) {
    if (other === name || !fields.has(other) || fields.raw(other) === null) continue;
    if (read(other) !== chosen)
      throw fields.refused(other, `it disagrees with ${name}, which this family reads`);
  }
  return chosen;
}
