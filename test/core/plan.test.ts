import { describe, expect, it } from "vitest";
import type { CheckpointFacts, FileFacts, TensorFacts } from "../../src/core/checkpoint.ts";
import { digestJson } from "../../src/core/identity.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { type PlanRequest, planMerge, requireRunnable } from "../../src/core/plan.ts";
import { readSafetensorsHeader } from "../../src/core/safetensors.ts";
import { MemorySource } from "../../src/core/source.ts";
import { safetensorsFile, type TestTensor } from "../support/safetensors.ts";

const PREFIX = "base_model.model.";
const BASE_TENSORS: TestTensor[] = [
  { name: "model.embed_tokens.weight", dtype: "BF16", shape: [100, 16] },
  { name: "model.layers.0.self_attn.q_proj.weight", dtype: "BF16", shape: [32, 16] },
  { name: "model.layers.0.self_attn.v_proj.weight", dtype: "BF16", shape: [32, 16] },
  { name: "model.layers.1.self_attn.q_proj.weight", dtype: "BF16", shape: [32, 16] },
  { name: "model.norm.weight", dtype: "BF16", shape: [16] },
];

function factors(module: string, r = 4, size = { in: 16, out: 32 }): TestTensor[] {
  return [
    { name: `${PREFIX}${module}.lora_A.weight`, dtype: "F32", shape: [r, size.in] },
    { name: `${PREFIX}${module}.lora_B.weight`, dtype: "F32", shape: [size.out, r] },
  ];
}
const Q0 = "model.layers.0.self_attn.q_proj";
const Q1 = "model.layers.1.self_attn.q_proj";
const V0 = "model.layers.0.self_attn.v_proj";
const LORA: JsonObject = {
  peft_type: "LORA",
  r: 4,
  lora_alpha: 8,
  target_modules: ["q_proj"],
  base_model_name_or_path: "acme/base",
  revision: "abc",
};

const file = (path: string, role: FileFacts["role"], text = path): FileFacts => ({
  path,
  size: text.length,
  role,
  digest: digestJson(text),
});

async function facts(
  kind: CheckpointFacts["kind"],
  tensors: TestTensor[],
  more: Partial<CheckpointFacts> & { metadata?: Record<string, string> } = {},
): Promise<CheckpointFacts> {
  const bytes = safetensorsFile(tensors, more.metadata ?? { format: "pt" });
  const header = await readSafetensorsHeader(new MemorySource("w", bytes));
  const path = kind === "adapter" ? "adapter_model.safetensors" : "model.safetensors";
  return {
    kind,
    files: [],
    weights: [{ path, size: bytes.byteLength, ...header }],
    config: kind === "adapter" ? LORA : { model_type: "llama", vocab_size: 100 },
    index: null,
    tokenizer: null,
    hasCode: false,
    ...more,
  };
}

interface Case {
  base?: Partial<CheckpointFacts> & { metadata?: Record<string, string> };
  adapter?: Partial<CheckpointFacts>;
  tensors?: TestTensor[];
  request?: Partial<PlanRequest>;
}

async function plan({
  base = {},
  adapter = {},
  tensors = [...factors(Q0), ...factors(Q1)],
  request = {},
}: Case = {}) {
  return planMerge({
    base: { facts: await facts("checkpoint", BASE_TENSORS, base), label: "acme/base@1" },
    sources: [{ facts: await facts("adapter", tensors, adapter), label: "acme/lora@1" }],
    choices: { weights: [1], tokenizer: null },
    ...request,
  });
}

const codes = (findings: readonly { code: string }[]) => findings.map((f) => f.code);

describe("a plan", () => {
  it("touches exactly the adapted modules and keeps the base's header byte for byte", async () => {
    const { steps, shards, touched, refusals, warnings } = await plan();
    expect(refusals).toEqual([]);
    expect(warnings).toEqual([]);
    expect(steps.filter((s) => s.expr).map((s) => s.tensor)).toEqual([`${Q0}.weight`, `${Q1}.weight`]);
    expect(steps.every((s) => s.input?.begin === s.outputBegin)).toBe(true);
    expect(shards).toMatchObject([{ path: "model.safetensors", header: null }]);
    expect(touched.map((t) => [t.rank, t.alpha, t.scale])).toEqual([
      [4, 8, 2],
      [4, 8, 2],
    ]);
  });

  it("scales by alpha over the root of the rank with rsLoRA", async () => {
    const { touched } = await plan({ adapter: { config: { ...LORA, use_rslora: true } } });
    expect(touched[0]?.scale).toBe(4);
  });

  it("takes rank and alpha of a module from the patterns", async () => {
    const config = {
      ...LORA,
      rank_pattern: { "layers.1.self_attn.q_proj": 2 },
      alpha_pattern: { "^.*q_proj": 3 },
    };
    const { touched, refusals } = await plan({
      adapter: { config },
      tensors: [...factors(Q0), ...factors(Q1, 2)],
    });
    expect(refusals).toEqual([]);
    expect(touched.map((t) => [t.rank, t.alpha])).toEqual([
      [4, 3],
      [2, 3],
    ]);
  });

  it("adds the format to a header that lacks it, since transformers would not load the file", async () => {
    const { shards, steps } = await plan({ base: { metadata: {} } });
    const header = shards[0]?.header;
    const text = new TextDecoder().decode(header!.subarray(8));
    expect(JSON.parse(text).__metadata__).toEqual({ format: "pt" });
    expect(steps[0]!.outputBegin).toBe(shards[0]!.dataStart);
  });

  it("names every reason at once", async () => {
    const tensors = [...factors(Q0), ...factors(Q1).slice(0, 1), ...factors(V0), ...factors("model.x", 4)];
    const { refusals } = await plan({ tensors, adapter: { config: { ...LORA, r: 3, new_rule: 1 } } });
    expect(new Set(codes(refusals))).toEqual(
      new Set(["UNKNOWN_CONFIG_FIELD", "RANK_MISMATCH", "MISSING_TENSOR", "ORPHAN_TENSOR"]),
    );
    const error = (() => {
      try {
        requireRunnable({ refusals });
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toMatchObject({ code: refusals[0]?.code, reasons: refusals });
  });

  it("ignores unknown fields that are not set", async () => {
    const config = { ...LORA, a: null, b: false, c: 0, d: "", e: [], f: {} };
    expect((await plan({ adapter: { config } })).refusals).toEqual([]);
  });

  it.each<[string, JsonObject, string]>([
    ["a rewritten base", { init_lora_weights: "pissa_niter_4" }, "NEEDS_RESIDUAL_BASE"],
    ["DoRA without its lengths", { use_dora: true }, "MISSING_TENSOR"],
    ["an activated LoRA", { alora_invocation_tokens: [1] }, "NOT_A_WEIGHT_UPDATE"],
    ["QALoRA", { use_qalora: true }, "UNSUPPORTED_VARIANT"],
    ["a method that changes inputs", { peft_type: "PROMPT_TUNING" }, "NOT_A_WEIGHT_UPDATE"],
    ["a method that has no merge", { peft_type: "LILY" }, "UNSUPPORTED_KIND"],
    ["a method nobody knows", { peft_type: "constructor" }, "UNKNOWN_PEFT_TYPE"],
  ])("refuses %s", async (_, config, code) => {
    expect(codes((await plan({ adapter: { config: { ...LORA, ...config } } })).refusals)).toContain(code);
  });

  it("refuses a pattern that cannot run in linear time, by name", async () => {
    const config = { ...LORA, target_modules: "(?=x)q_proj" };
    expect((await plan({ adapter: { config } })).refusals).toMatchObject([
      { code: "UNSUPPORTED_PATTERN", subject: "adapter_config.json target_modules" },
    ]);
  });

  it("names every field that cannot be read at once, beside what else is wrong", async () => {
    const config = {
      ...LORA,
      use_qalora: true,
      r: "4",
      lora_alpha: null,
      use_rslora: 1,
      rank_pattern: { q_proj: "4" },
      alpha_pattern: { "(?=x)": 2 },
      exclude_modules: [1],
    };
    const { refusals } = await plan({ adapter: { config } });
    expect(refusals.map((finding) => [finding.code, finding.subject])).toEqual([
      ["UNSUPPORTED_VARIANT", "use_qalora"],
      ["BAD_ADAPTER_CONFIG", "r"],
      ["BAD_ADAPTER_CONFIG", 'rank_pattern["q_proj"]'],
      ["BAD_ADAPTER_CONFIG", "lora_alpha"],
      ["UNSUPPORTED_PATTERN", "adapter_config.json alpha_pattern"],
      ["BAD_ADAPTER_CONFIG", "use_rslora"],
      ["BAD_ADAPTER_CONFIG", "exclude_modules"],
    ]);
  });

  it("runs a pattern that would hold up a backtracking engine", async () => {
    const config = { ...LORA, target_modules: `(([a-z._0-9])+)+q_proj${"|(x+x+)+y".repeat(3)}` };
    expect((await plan({ adapter: { config } })).refusals).toEqual([]);
  });

  it("refuses a quantised base, and NaN known from statistics", async () => {
    const quantised = await plan({ base: { config: { quantization_config: { quant_method: "gptq" } } } });
    expect(codes(quantised.refusals)).toContain("QUANTISED_BASE");
    const adapter = await facts("adapter", [...factors(Q0), ...factors(Q1)]);
    const stats = { absmax: null, rms: null, nonFinite: 1 };
    const spoilt = adapter.weights.map((w) => ({
      ...w,
      tensors: w.tensors.map((t): TensorFacts => ({ ...t, stats })),
    }));
    expect(codes((await plan({ adapter: { weights: spoilt } })).refusals)).toContain("NOT_FINITE");
  });

  it("warns of another base name and an unpinned revision, and refuses both when strict", async () => {
    const adapter = { config: { ...LORA, base_model_name_or_path: "other/base-7b", revision: null } };
    const both = ["BASE_NAME_DIFFERS", "BASE_REVISION_UNPINNED"];
    const loose = await plan({ adapter });
    expect([codes(loose.warnings), loose.refusals]).toEqual([both, []]);
    const strict = await plan({ adapter, request: { strictBase: true } });
    expect([strict.warnings, codes(strict.refusals)]).toEqual([[], both]);
  });

  it("takes one adapter with weight 1, and says so of any other list of sources", async () => {
    const source = { facts: await facts("adapter", [...factors(Q0), ...factors(Q1)]), label: "acme/lora" };
    const ask = (sources: PlanRequest["sources"], weights: number[]) =>
      plan({ request: { sources, choices: { weights, tokenizer: null } } });
    for (const [sources, weights] of [
      [[], []],
      [
        [source, source],
        [1, 1],
      ],
      [[source], [0.5]],
    ] as const) {
      await expect(ask(sources, [...weights])).rejects.toMatchObject({ code: "UNSUPPORTED_RECIPE" });
    }
  });

  it("refuses a pinned digest that disagrees", async () => {
    const base = { facts: await facts("checkpoint", BASE_TENSORS), label: "acme/base" };
    const [digest, pin] = [digestJson(1), digestJson(2)];
    expect((await plan({ request: { base: { ...base, digest, pin: digest } } })).refusals).toEqual([]);
    expect(codes((await plan({ request: { base: { ...base, digest, pin } } })).refusals)).toEqual([
      "DIGEST_MISMATCH",
    ]);
  });
});

describe("the tokenizer of a plan", () => {
  const baseFiles = [
    file("config.json", "CONFIG"),
    file("tokenizer.json", "TOKENIZER"),
    file("chat_template.jinja", "TOKENIZER"),
  ];
  const base = { files: baseFiles, tokenizer: { maxId: 99, hasChatTemplate: true } };
  const paths = (p: { files: readonly { path: string; from: string }[] }) =>
    p.files.map((f) => `${f.from}:${f.path}`);

  it("is the base's where the adapter ships none, or the same", async () => {
    const same = { files: [file("tokenizer.json", "TOKENIZER")] };
    for (const adapter of [{}, same]) {
      const result = await plan({ base, adapter });
      expect(result.tokenizer.from).toBe("base");
      expect(paths(result)).toEqual(["base:chat_template.jinja", "base:config.json", "base:tokenizer.json"]);
    }
  });

  it("is the adapter's where it differs, the whole set at once, and the plan says so", async () => {
    const adapter = {
      files: [file("tokenizer.json", "TOKENIZER", "other")],
      tokenizer: { maxId: 99, hasChatTemplate: false },
    };
    const result = await plan({ base, adapter });
    expect(paths(result)).toEqual(["base:config.json", "adapter:tokenizer.json"]);
    expect(result.tokenizer.differences).toEqual(["tokenizer.json"]);
    expect(codes(result.warnings)).toEqual(["TOKENIZER_DIFFERS"]);
  });

  it("lays an adapter's chat template over the base's vocabulary", async () => {
    const adapter = { files: [file("chat_template.jinja", "TOKENIZER", "other")] };
    expect(paths(await plan({ base, adapter }))).toEqual([
      "adapter:chat_template.jinja",
      "base:config.json",
      "base:tokenizer.json",
    ]);
  });

  it("is refused when it produces ids beyond the embedding", async () => {
    const adapter = {
      files: [file("tokenizer.json", "TOKENIZER", "x")],
      tokenizer: { maxId: 100, hasChatTemplate: false },
    };
    expect(codes((await plan({ base, adapter })).refusals)).toEqual(["TOKENIZER_BEYOND_EMBEDDING"]);
    const choices = { weights: [1], tokenizer: "base" as const };
    expect((await plan({ base, adapter, request: { choices } })).refusals).toEqual([]);
  });

  it("is warned of, not refused, where the base's own ids exceed the embedding as published", async () => {
    const published = { ...base, tokenizer: { maxId: 100, hasChatTemplate: false } };
    const result = await plan({ base: published });
    expect(result.refusals).toEqual([]);
    expect(codes(result.warnings)).toEqual(["TOKENIZER_BEYOND_EMBEDDING"]);
    const adapter = {
      files: [file("tokenizer.json", "TOKENIZER", "x")],
      tokenizer: { maxId: 101, hasChatTemplate: false },
    };
    expect(codes((await plan({ base: published, adapter })).refusals)).toEqual([
      "TOKENIZER_BEYOND_EMBEDDING",
    ]);
  });

  it("is refused when settings laid over the base's vocabulary add ids beyond the embedding", async () => {
    const adapter = {
      files: [file("tokenizer_config.json", "TOKENIZER", "x")],
      tokenizer: { maxId: 100, hasChatTemplate: false },
    };
    expect(codes((await plan({ base, adapter })).refusals)).toEqual(["TOKENIZER_BEYOND_EMBEDDING"]);
  });

  it("is the base's with a warning where the adapter's is asked for and there is none", async () => {
    const result = await plan({ base, request: { choices: { weights: [1], tokenizer: "adapter" } } });
    expect(codes(result.warnings)).toEqual(["TOKENIZER_MISSING"]);
    expect(paths(result)).toEqual(["base:chat_template.jinja", "base:config.json", "base:tokenizer.json"]);
  });

  it("comes without adapter files, cards and logs, but with licence and code", async () => {
    const carried = ["README.md", "training_log.json", "LICENSE"].map((path) => file(path, "CARRIED"));
    const files = [...baseFiles, ...carried, file("modeling_x.py", "CODE")];
    const adapter = { files: [file("adapter_config.json", "CONFIG"), file("README.md", "CARRIED")] };
    const result = await plan({ base: { ...base, files, hasCode: true }, adapter });
    expect(paths(result)).toEqual([
      "base:LICENSE",
      "base:chat_template.jinja",
      "base:config.json",
      "base:modeling_x.py",
      "base:tokenizer.json",
    ]);
    expect(codes(result.warnings)).toEqual(["CARRIES_CODE"]);
  });
});
