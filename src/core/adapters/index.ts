import type { ModelFacts } from "../arch.ts";
import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import type { Expr } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { refuseKind } from "./kinds.ts";
import { parseLora } from "./lora.ts";

/** What a kind needs to turn an adapter into expressions: headers and configs, no bytes. */
export interface AdapterInput {
  /** adapter_config.json. */
  readonly config: JsonObject;
  readonly tensors: readonly TensorFacts[];
  readonly base: ReadonlyMap<string, LocatedTensor>;
  readonly model: ModelFacts;
  /** Position among the recipe's sources. */
  readonly source: number;
}

/** One base tensor that the adapter changes. */
export interface AdapterTarget {
  readonly tensor: string;
  readonly module: string;
  readonly rank: number;
  readonly alpha: number;
  /** In float64, before it is rounded to float32 for the multiplication. */
  readonly scale: number;
  readonly expr: Expr;
}

export interface ParsedAdapter {
  readonly targets: readonly AdapterTarget[];
  /** Every reason to refuse. */
  readonly problems: readonly Finding[];
  readonly warnings: readonly Finding[];
}

type Parser = (input: AdapterInput) => ParsedAdapter;

/** `peft_type` → detect, parse, expression. A new kind is one file and one line here. */
const KINDS: Readonly<Record<string, Parser>> = { LORA: parseLora };

/** Turns an adapter into one expression for each base tensor it changes, or says why it cannot. */
export function parseAdapter(input: AdapterInput): ParsedAdapter {
  const peftType = input.config.peft_type;
  if (typeof peftType !== "string") {
    const message = `adapter_config.json: peft_type must be a string, found ${JSON.stringify(peftType)}.`;
    return {
      targets: [],
      warnings: [],
      problems: [{ code: "BAD_ADAPTER_CONFIG", subject: "peft_type", message }],
    };
  }
  const parse = Object.hasOwn(KINDS, peftType) ? KINDS[peftType] : undefined;
  return parse ? parse(input) : { targets: [], warnings: [], problems: [refuseKind(peftType)] };
}
