import type { GateRow } from "../evaluation-documents.ts";
import type { Option } from "../ui/field.tsx";

type Gates = readonly (GateRow | null)[];

/** Gates as a form offers them, the newest version of each; what an address names is there in any case. */
export function gateOptions(gates: Gates, chosen: string): Option[] {
  const options = gates.flatMap((gate) => (gate ? [{ value: gate.name, text: gate.name }] : []));
  return chosen === "" || options.some(({ value }) => value === chosen)
    ? options
    : [{ value: chosen, text: chosen }, ...options];
}

/** What choosing a gate means. */
export function gateHint(gates: Gates, chosen: string): string {
  const asks = gates.find((gate) => gate?.name === chosen)?.description;
  return `${asks ? `${asks} ` : ""}The evaluation follows by itself: base and adapter run beside the result.`;
}
