import { useState } from "react";
import type { ModuleSelection, RecipeChoices } from "../../../src/client/types.ts";
import { readLayers, readNames } from "../../../src/core/selection-text.ts";
import { type MergeOption, mergeOptions } from "../router.ts";
import { SelectField, TextField } from "../ui/field.tsx";

export type MergeOptionValues = Partial<Record<MergeOption, string>>;

const DTYPES = [
  { value: "BF16", text: "bfloat16" },
  { value: "F16", text: "float16" },
  { value: "F32", text: "float32" },
];

/** How the merge is computed and stored: rarely needed, so folded away until something is set. */
export function MergeOptions({
  values,
  onChange,
}: {
  readonly values: MergeOptionValues;
  readonly onChange: (change: MergeOptionValues) => void;
}) {
  // Decided once: clearing the last option must not fold the form away under the hands that type in it.
  const [open] = useState(() => {
    // The gate says nothing of the merge itself, and has a place of its own.
    const { gate: _, ...folded } = mergeOptions(values);
    return Object.keys(folded).length > 0;
  });
  const set = (key: MergeOption) => (value: string) => onChange({ [key]: value });
  return (
    <details open={open}>
      <summary>Options</summary>
      <div className="stack">
        <SelectField
          label="Storage type"
          value={values.dtype ?? ""}
          onChange={set("dtype")}
          options={DTYPES}
          empty="The base's own types"
        />
        <SelectField
          label="Arithmetic"
          value={values.numerics ?? ""}
          onChange={set("numerics")}
          options={[{ value: "EXACT", text: "Exact: float64, one rounding at the end" }]}
          empty="PEFT's own float32 steps"
        />
        <SelectField
          label="Tied embeddings"
          value={values.ties ?? ""}
          onChange={set("ties")}
          options={[{ value: "PEFT", text: "Change both sides, as PEFT does" }]}
          empty="Keep what the adapter computes, untie where needed"
        />
        <TextField
          label="Merge only these modules"
          value={values.include ?? ""}
          onChange={set("include")}
          placeholder="q_proj, v_proj"
          hint="Names or ends of names, separated by commas; empty: all."
        />
        <TextField
          label="Leave these modules out"
          value={values.exclude ?? ""}
          onChange={set("exclude")}
          placeholder="lm_head"
        />
        <TextField
          label="Merge only these layers"
          value={values.layers ?? ""}
          onChange={set("layers")}
          placeholder="0-15, 31"
          hint="Counted from 0; empty: all."
          problem={badLayers(values.layers)}
        />
      </div>
    </details>
  );
}

function badLayers(text: string | undefined): string | null {
  return text && readLayers(text) === null ? "Write layer numbers and ranges, such as 0-15, 31." : null;
}

/** The form's options as the API takes them; undefined where all are defaults. */
export function choicesOf(values: MergeOptionValues): RecipeChoices | undefined {
  const names = (text: string | undefined) => readNames(text ?? "");
  const layers = values.layers ? readLayers(values.layers) : null;
  const include = selection(names(values.include), layers);
  const exclude = selection(names(values.exclude), null);
  const choices: RecipeChoices = {
    ...(values.dtype && { dtype: values.dtype as "BF16" }),
    ...(values.numerics === "EXACT" && { numerics: "EXACT" as const }),
    ...(values.ties === "PEFT" && { ties: "PEFT" as const }),
    ...(include && { include }),
    ...(exclude && { exclude }),
  };
  return Object.keys(choices).length === 0 ? undefined : choices;
}

function selection(modules: readonly string[], layers: readonly number[] | null): ModuleSelection | null {
  if (modules.length === 0 && layers === null) return null;
  return { ...(modules.length > 0 && { modules }), ...(layers && { layers }) };
}
