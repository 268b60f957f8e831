import type { LocatedTensor } from "../checkpoint.ts";
import type { AdapterInput } from "./index.ts";
import { candidates, type Named } from "./names.ts";
import { findTensor } from "./parts.ts";
import { renamesOf } from "./renames.ts";

/** A tensor of the checkpoint, and which part of a parameter in memory it is. */
export interface Piece {
  readonly tensor: LocatedTensor;
  /** `null`: the whole parameter. */
  readonly expert: number | null;
  /** Rows of the expert's matrix. */
  readonly start: number;
  readonly stop: number;
}

/** A parameter of a module in memory: a matrix, or one matrix for each expert. */
export interface Parameter {
  readonly name: string;
  readonly experts: number;
  /** Size of an expert's matrix as it is stored. */
  readonly rows: number;
  readonly columns: number;
  readonly pieces: readonly Piece[];
  /** Its place among the module's parameters, by which PEFT nests its wrappers, is known. */
  readonly ordered: boolean;
}

/** Names of parameters that models register, in their order. */
const ORDER = [
  "weight",
  "gate_up_proj",
  "gate_up_proj_bias",
  "gate_proj",
  "up_proj",
  "w1",
  "v1",
  "w2",
  "down_proj",
  "down_proj_bias",
];

/** What one expert is called where a checkpoint has a tensor for each: gate, up and down. */
const PER_EXPERT = [
  ["gate_proj", "up_proj", "down_proj"],
  ["w1", "w3", "w2"],
] as const;

/**
 * The parameters of a module in memory, in the order in which it registers them.
 * @param more names to look for besides those of known models
 */
export function parametersOf(input: Named, module: string, more: readonly string[] = []): Parameter[] {
  return [...new Set([...ORDER, ...more])].flatMap((name) => {
    const found = wholeParameter(input, module, name) ?? splitParameter(input, module, name);
    return found ? [{ ...found, name, ordered: ORDER.includes(name) }] : [];
  });
}

type Found = Omit<Parameter, "name" | "ordered">;

function wholeParameter(input: Named, module: string, name: string): Found | null {
  const found = candidates(input, `${module}.${name}`);
  const tensor = found[0]?.tensor;
  if (!tensor || found.length > 1 || tensor.shape.length < 2 || tensor.shape.length > 3) return null;
  const [experts, rows, columns] = [...(tensor.shape.length === 2 ? [1] : []), ...tensor.shape] as [
    number,
    number,
    number,
  ];
  return { experts, rows, columns, pieces: [{ tensor, expert: null, start: 0, stop: rows }] };
}

/** Gate over up, and down, of experts that the checkpoint stores one by one; `null` where they differ in size. */
function splitParameter(input: Named, module: string, name: string): Found | null {
  for (const [gate, up, down] of PER_EXPERT) {
    const parts = name === "gate_up_proj" ? [gate, up] : name === "down_proj" ? [down] : [];
    const pieces: Piece[] = [];
    const sizes = new Set<string>();
    let experts = 0;
    for (; parts.length > 0; experts++) {
      const tensors = parts.map((part) => findTensor(input, `${module}.${experts}.${part}`));
      if (tensors.some((tensor) => tensor === null)) break;
      let start = 0;
      for (const tensor of tensors as LocatedTensor[]) {
        const stop = start + tensor.shape[0]!;
        pieces.push({ tensor, expert: experts, start, stop });
        start = stop;
      }
      sizes.add(`${start} ${tensors.map((tensor) => tensor!.shape.slice(1).join()).join(" ")}`);
    }
    if (experts === 0) continue;
    if (sizes.size > 1) return null;
    return { experts, rows: pieces[parts.length - 1]!.stop, columns: pieces[0]!.tensor.shape[1]!, pieces };
  }
  return null;
}

/** Every parameter of the base that `target_parameters` may name, by its module in memory. */
export function parametersOfBase(input: AdapterInput): { module: string; name: string }[] {
  const rename = renamesOf(input.model.modelType);
  const found = new Map<string, { module: string; name: string }>();
  for (const tensor of input.base.values()) {
    const inMemory = rename(tensor.name);
    const split = /^(.*\.experts)\.\d+\.([^.]+)\.weight$/.exec(inMemory);
    const part = split && (PER_EXPERT.some(([, , down]) => down === split[2]) ? "down_proj" : "gate_up_proj");
    if (tensor.shape.length < 2) continue;
    const at = inMemory.lastIndexOf(".");
    const one = split
      ? { module: split[1]!, name: part! }
      : { module: inMemory.slice(0, at), name: inMemory.slice(at + 1) };
    found.set(`${one.module}.${one.name}`, one);
  }
  return [...found.values()];
}
