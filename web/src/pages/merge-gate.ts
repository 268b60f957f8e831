import type { GateRow } from "../evaluation-documents.ts";
import type { Option } from "../ui/field.tsx";

/** Gates as a form offers them, the newest version of each; what an address names is there in any case. */
export function gateOptions(gates: readonly (GateRow | null)[], chosen: string): Option[] {
  const options = gates.flatMap((gate) =>
    gate
      ? [{ value: gate.name, text: gate.description ? `${gate.name}: ${gate.description}` : gate.name }]
      : [],
  );
  return chosen === "" || options.some(({ value }) => value === chosen)
    ? options
    : [{ value: chosen, text: chosen }, ...options];
}
