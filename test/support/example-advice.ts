import { adviseOn, type ServingFacts } from "../../src/core/evaluation/advice.ts";
import type { MeasuredAdvice } from "../../src/registry/serving-advice.ts";

const metric = (value: number) => ({ value, standardError: value / 10, interval: null });

/** A parity that passes. */
export const PASSED_PARITY = {
  verdict: "PASSED",
  codes: [],
  gate: "default@1",
  dtype: "BF16",
  documents: 64,
  predictions: 2671,
  meanKld: metric(2.7e-6),
  timesFloor: 12,
  sameTop: metric(0.9996),
  perplexityRatio: metric(1.0001),
} satisfies ServingFacts["parity"];

/** An 8B model with one adapter, merged into as many bytes: everything measured, nothing against a merge. */
export const EXAMPLE_FACTS: ServingFacts = {
  labels: { base: "base", sources: ["adapter"], merged: null },
  planned: 1,
  disk: { base: 16e9, adapter: 40e6, merged: 16e9 },
  memory: { base: 16e9, adapter: 40e6, merged: 16e9 },
  mergedExists: false,
  times: {
    separate: { load: 900, prefill: 120, perToken: 12 },
    merged: { load: 800, prefill: 100, perToken: 10 },
    standIn: true,
    promptTokens: 128,
    newTokens: 16,
    weightsKept: true,
    device: "cpu",
    provider: "ONNX Runtime CPU",
    processor: "a processor",
    threads: 2,
  },
  timesSkipped: null,
  parity: PASSED_PARITY,
  paritySkipped: null,
  retention: { relativeError: 0.05, projection: 1.001, moved: 0.9 },
  quantisation: { base: null, training: null },
  obstacles: [],
  commands: { merged: "vllm serve merged", separate: "vllm serve base --enable-lora" },
};

/** The example as a worker records it. */
export function exampleMeasured(changes: Partial<ServingFacts> = {}): MeasuredAdvice {
  return {
    advice: adviseOn({ ...EXAMPLE_FACTS, ...changes }),
    commands: { merged: "vllm serve /models/merged", separate: "vllm serve /models/base --enable-lora" },
    environment: {
      graftwork: "0.1.0",
      device: "cpu",
      provider: "ONNX Runtime CPU",
      threads: 2,
      platform: "linux x64 6.1",
      processor: "a processor",
      node: "v24.0.0",
    },
  };
}
