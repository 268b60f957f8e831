import { DEFAULT_GATE, gateDigest } from "../../src/core/evaluation/gates.ts";
import type {
  EvaluationReport,
  LogitsReport,
  Metric,
  TasksReport,
  TensorRetention,
  TextReport,
} from "../../src/core/evaluation/report.ts";
import { judge, type Unjudged } from "../../src/core/evaluation/verdict.ts";
import { digestJson } from "../../src/core/identity.ts";

/*
 * A report as an evaluation of a bf16 merge writes it: 16 layers of 7 modules, 64 texts, every level. The numbers are
 * of the size that such a merge has; they are drawn from a fixed seed, so that pages made of them are the same each time.
 */

const MODULES: readonly (readonly [path: string, elements: number])[] = [
  ["self_attn.q_proj", 2048 * 2048],
  ["self_attn.k_proj", 512 * 2048],
  ["self_attn.v_proj", 512 * 2048],
  ["self_attn.o_proj", 2048 * 2048],
  ["mlp.gate_proj", 8192 * 2048],
  ["mlp.up_proj", 8192 * 2048],
  ["mlp.down_proj", 2048 * 8192],
];

/** Mulberry32: 32-bit state, enough for made-up numbers. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function exampleMetric(value: number, standardError: number): Metric {
  return { value, standardError, interval: [value - 1.9 * standardError, value + 2.2 * standardError] };
}

function tensors(layers: number): TensorRetention[] {
  const next = random(5);
  return Array.from({ length: layers }, (_, layer) =>
    MODULES.map(([path, elements]) => {
      const module = `model.layers.${layer}.${path}`;
      const weightNorm = Math.sqrt(elements) * 0.02;
      const strength = 10 ** (-2.6 + 0.9 * next() + 0.03 * layer);
      const relativeError = Math.min(1.2, 0.0011 / strength);
      const deltaNorm = weightNorm * strength;
      return {
        tensor: `${module}.weight`,
        module,
        change: "LoRA",
        dtype: "BF16",
        elements,
        differing: 0,
        maxUlp: 0,
        weightNorm,
        deltaNorm,
        storedNorm: deltaNorm * Math.hypot(1, relativeError),
        relativeError,
        projection: 1 + (next() - 0.5) * relativeError * 0.05,
        moved: Math.min(0.97, strength * 60),
        maxError: 4.9e-4 * (0.5 + next()),
        nonFinite: 0,
      };
    }),
  ).flat();
}

/** Counts of a bell on the log10 scale, `bins` steps of 0.25 from −16 on. */
function bell(centre: number, width: number, total: number): number[] {
  const shares = Array.from({ length: 64 }, (_, i) =>
    Math.exp(-0.5 * ((-16 + 0.25 * (i + 0.5) - centre) / width) ** 2),
  );
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => Math.round((share / sum) * total));
}

const WORST: LogitsReport["worst"] = [
  {
    document: 17,
    position: 41,
    kld: 8.1e-4,
    context: "Dear customer,\nthank you for your message. Your parcel left our warehouse on",
    token: " Tuesday",
    probabilityReference: 0.2131,
    probabilityCandidate: 0.2214,
    topReference: " Monday",
    topCandidate: " Monday",
  },
  {
    document: 3,
    position: 12,
    kld: 5.2e-4,
    context: "La livraison est prévue pour",
    token: " demain",
    probabilityReference: 0.4402,
    probabilityCandidate: 0.4391,
    topReference: " demain",
    topCandidate: " demain",
  },
  {
    document: 51,
    position: 88,
    kld: 4.4e-4,
    context: "| item | price |\n|---|---|\n| tea |",
    token: " 3",
    probabilityReference: 0.118,
    probabilityCandidate: 0.1213,
    topReference: " 2",
    topCandidate: " 3",
  },
];

export function exampleLogits(): LogitsReport {
  const next = random(11);
  const names = ["embedding", ...Array.from({ length: 16 }, (_, i) => `layer ${i}`), "final norm"];
  return {
    documents: 64,
    predictions: 14_211,
    kld: { mean: exampleMetric(1.1e-5, 0.2e-5), median: 3.1e-6, p99: 1.4e-4, p999: 4.0e-4, max: 8.1e-4 },
    deltaP: {
      mean: exampleMetric(-2.1e-6, 4.8e-6),
      rms: exampleMetric(1.3e-3, 0.1e-3),
      percentiles: { p1: -3.9e-3, p5: -1.6e-3, p25: -1.9e-4, p50: 0, p75: 1.9e-4, p95: 1.6e-3, p99: 3.8e-3 },
    },
    sameTop: { value: 0.9981, standardError: 0.0004, interval: [0.9971, 0.9988] },
    perplexity: {
      reference: exampleMetric(8.412, 0.31),
      candidate: exampleMetric(8.413, 0.31),
      ratio: exampleMetric(1.00009, 0.00006),
    },
    maxLogitDifference: 0.0914,
    nonFiniteLogits: 0,
    effect: { documents: 32, predictions: 7012, meanKld: 2.1e-2, share: 5.2e-4 },
    floor: {
      how: "the reference again, one document a batch instead of eight",
      documents: 32,
      predictions: 7012,
      meanKld: 3.4e-6,
      p99: 2.9e-5,
      maxKld: 1.1e-4,
      sameTop: 0.9996,
      maxLogitDifference: 0.0128,
    },
    timesFloor: 3.24,
    histogram: { from: -16, step: 0.25, candidate: bell(-5.6, 0.8, 14_211), floor: bell(-6.4, 0.7, 7012) },
    layers: names.map((name, i) => ({
      name,
      relativeError: i === 0 ? 0 : 2.1e-4 * 1.12 ** i * (0.8 + 0.4 * next()),
      maxAbs: i === 0 ? 0 : 3e-3 * 1.2 ** i,
      floor: i === 0 ? 0 : 4.2e-5 * 1.1 ** i * (0.8 + 0.4 * next()),
    })),
    firstApart: null,
    worst: WORST,
  };
}

export function exampleText(): TextReport {
  return {
    prompts: [
      {
        prompt: "Where is my order 4711?",
        reference: " It left our warehouse on Monday and arrives tomorrow.",
        candidate: " It left our warehouse on Monday and arrives tomorrow.",
        firstDivergence: null,
      },
      {
        prompt: "Classify: the tea was cold and the waiter rude.",
        reference: " negative, because both remarks are complaints.",
        candidate: " negative, since both remarks are complaints.",
        firstDivergence: 2,
      },
    ],
    maxNewTokens: 32,
    exactMatch: { value: 0.5, standardError: 0.5, interval: [0, 1] },
  };
}

export function exampleTasks(): TasksReport {
  return {
    name: "support-intents",
    digest: digestJson("support-intents"),
    examples: 200,
    rule: "the continuation, trimmed, equals the expected answer",
    reference: exampleMetric(0.92, 0.0192),
    candidate: exampleMetric(0.915, 0.0197),
    difference: exampleMetric(-0.005, 0.005),
    bothRight: 183,
    onlyReference: 1,
    onlyCandidate: 0,
    neither: 16,
    mcnemar: { method: "exact", statistic: 1, p: 1 },
  };
}

/** Everything but the verdict; what is given replaces the whole field. */
export function exampleUnjudged(changes: Partial<Unjudged> = {}): Unjudged {
  const all = tensors(16);
  const report: Unjudged = {
    schema: 1,
    warnings: [],
    gate: DEFAULT_GATE,
    gateDigest: gateDigest(DEFAULT_GATE),
    reference: {
      base: { label: "acme/llama-1b@3", version: digestJson("base"), weights: digestJson("base weights") },
      sources: [
        {
          label: "acme/support@7",
          version: digestJson("adapter"),
          weights: digestJson("adapter weights"),
          weight: 1,
        },
      ],
      forms: { branches: all.length },
      note: "every adapted module runs as W·x + s·B·(A·x)",
    },
    candidate: {
      label: "acme/support-merged@2",
      version: digestJson("merged"),
      weights: digestJson("merged weights"),
      kind: "checkpoint",
      dtype: "BF16",
    },
    recipeDigest: digestJson("recipe"),
    checks: [
      { level: 0, name: "tensor names", passed: true, detail: "146 tensors, the same as the base's." },
      { level: 0, name: "shapes and dtypes", passed: true, detail: "Equal to the base's." },
      { level: 0, name: "finite values", passed: true, detail: "Every value of every tensor is finite." },
      {
        level: 0,
        name: "tokenizer",
        passed: true,
        detail: "tokenizer.json and tokenizer_config.json are the recipe's.",
      },
      { level: 1, name: "untouched tensors", passed: true, detail: "34 tensors, byte for byte the base's." },
      {
        level: 1,
        name: "touched tensors",
        passed: true,
        detail: "112 tensors, each element the canonical value.",
      },
    ],
    weights: {
      touched: all.length,
      untouched: 34,
      relativeError: 0.164,
      projection: 0.9997,
      moved: 0.611,
      maxUlp: 0,
      tensors: all,
    },
    logits: exampleLogits(),
    logitsSkipped: null,
    text: exampleText(),
    tasks: exampleTasks(),
    texts: {
      name: "support-held-out",
      digest: digestJson("texts"),
      documents: 64,
      tokens: 14_275,
      window: 2048,
      stride: 1024,
      tokenizer: digestJson("tokenizer"),
      specialTokens: true,
      chatTemplate: false,
    },
    seed: 7,
    environment: {
      graftwork: "0.1.0",
      device: "cpu",
      provider: "CPUExecutionProvider",
      runtime: "onnxruntime 1.30.0",
      threads: 4,
      platform: "linux x64",
      processor: "AMD EPYC 7763",
      node: "24.21.0",
    },
    timings: { weights: 8123, logits: 64_210, floor: 30_544, text: 5120, tasks: 12_031 },
  };
  return { ...report, ...changes };
}

/** A judged report. */
export function exampleReport(changes: Partial<Unjudged> = {}): EvaluationReport {
  const report = exampleUnjudged(changes);
  return { ...report, ...judge(report, []) };
}
