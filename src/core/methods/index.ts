import type { AdapterTarget, ParsedAdapter } from "../adapters/index.ts";
import { addMethod } from "./add.ts";

/** Combines the parsed sources into one expression for each touched base tensor. */
export interface MergeMethod {
  readonly name: string;
  readonly version: number;
  combine(sources: readonly ParsedAdapter[], weights: readonly number[]): readonly AdapterTarget[];
}

export const METHODS: Readonly<Record<string, MergeMethod>> = { add: addMethod };
