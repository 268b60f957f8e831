import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../../src/core/json.ts";
import { roundToBits } from "../../../src/core/numerics.ts";
import { type Given, merge, type Nested } from "../../support/adapters.ts";

/*
 * Layers that no case of test/fixtures/merge has, against the bytes that PEFT 0.21 with torch 2.13 gave for the same
 * numbers: tensor number s of the sorted names holds ((i·7919 + 31·s) mod 257 − 128)/64 in the base (BF16), and
 * ((i·104729 + 977·s) mod 1009 − 504)/4096 in the adapter (F32).
 */

type Shapes = Readonly<Record<string, readonly number[]>>;

function filled(shape: readonly number[], value: (i: number) => number): Nested {
  let at = 0;
  const fill = ([size, ...rest]: readonly number[]): Nested =>
    Array.from({ length: size! }, () => (rest.length === 0 ? value(at++) : fill(rest)));
  return fill(shape);
}

function tensors(shapes: Shapes, dtype: "BF16" | "F32", value: (i: number, s: number) => number) {
  const names = Object.keys(shapes).sort();
  return Object.fromEntries(
    names.map((name, s): [string, Given] => [
      name,
      { dtype, values: filled(shapes[name]!, (i) => value(i, s)) },
    ]),
  );
}

interface PeftCase {
  readonly base: Shapes;
  readonly adapter: Shapes;
  readonly config: JsonObject;
  readonly merged: Readonly<Record<string, string>>;
}

function digests({ base, adapter, config, merged }: PeftCase): Record<string, string> {
  const result = merge({
    base: tensors(base, "BF16", (i, s) => (((i * 7919 + s * 31) % 257) - 128) / 64),
    adapter: tensors(adapter, "F32", (i, s) => (((i * 104729 + s * 977) % 1009) - 504) / 4096),
    config: { peft_type: "LORA", r: 4, lora_alpha: 6, peft_version: "0.21.0", ...config },
    model: { model_type: "custom" },
  });
  expect(result.problems).toEqual([]);
  return Object.fromEntries(
    Object.keys(merged).map((name) => {
      const bits = Uint16Array.from(result.stored(name, "BF16"), (value) => roundToBits("BF16", value));
      return [name, createHash("sha256").update(bits).digest("hex")];
    }),
  );
}

const TWO: Shapes = { "down.weight": [32, 64], "up.weight": [64, 32] };
const EXPERTS: Shapes = { "experts.down_proj": [3, 24, 32], "experts.gate_up_proj": [3, 32, 48] };
const PARAMETERS = { target_modules: [], target_parameters: ["experts.gate_up_proj", "experts.down_proj"] };
const CONVOLUTIONS: Shapes = {
  "c1.bias": [24],
  "c1.weight": [24, 8, 3],
  "c2.bias": [32],
  "c2.weight": [32, 16, 1, 1],
  "c3.bias": [16],
  "c3.weight": [16, 4, 2, 2, 2],
};
const KERNELS: Shapes = {
  "c1.lora_A.weight": [4, 8, 3],
  "c1.lora_B.weight": [24, 4, 1],
  "c2.lora_A.weight": [4, 16, 1, 1],
  "c2.lora_B.weight": [32, 4, 1, 1],
  "c3.lora_A.weight": [4, 4, 2, 2, 2],
  "c3.lora_B.weight": [16, 4, 1, 1, 1],
};
const PLAIN: Shapes = {
  "down.lora_A.weight": [4, 64],
  "down.lora_B.weight": [32, 4],
  "up.lora_A.weight": [4, 32],
  "up.lora_B.weight": [64, 4],
};

const CASES: Readonly<Record<string, PeftCase>> = {
  "MultiheadAttention: the input projection rounds its change first, the output projection takes its own twice":
    {
      base: {
        "attn.in_proj_bias": [96],
        "attn.in_proj_weight": [96, 32],
        "attn.out_proj.bias": [32],
        "attn.out_proj.weight": [32, 32],
      },
      adapter: {
        "attn.base_layer.out_proj.lora_A.weight": [4, 32],
        "attn.base_layer.out_proj.lora_B.weight": [32, 4],
        "attn.lora_A.weight": [4, 32],
        "attn.lora_B.weight": [96, 4],
      },
      config: { target_modules: ["attn"] },
      merged: {
        "attn.in_proj_weight": "7fac7e94f49434c7dc14be10691365008ced25c00ef27e0ed2134c5fb2916635",
        "attn.out_proj.weight": "a3e45e6a0c6ed0a8870ff0366736e734b9beceafa56c5548fea4d903e1f98825",
      },
    },
  "BD-LoRA: the narrow factor has its blocks on the diagonal": {
    base: TWO,
    adapter: { ...PLAIN, "down.lora_A.weight": [4, 32], "up.lora_B.weight": [64, 2] },
    config: {
      target_modules: ["up", "down"],
      use_bdlora: {
        target_modules_bd_a: ["down"],
        target_modules_bd_b: ["up"],
        nblocks: 2,
        match_strict: true,
      },
    },
    merged: {
      "down.weight": "e3a79116f9ace4e972c52443e68851a82b3e4a02003068c69f407b45a380dfed",
      "up.weight": "48fe36c8eb74b4379939d1764f4c9f1fedb4e66ffb056b8cdc96c641e4d212d4",
    },
  },
  "fused experts (out×in), as PEFT has adapted them since 0.19": {
    base: EXPERTS,
    adapter: {
      "experts.base_layer.lora_A.weight": [12, 48],
      "experts.base_layer.lora_B.weight": [32, 12],
      "experts.lora_A.weight": [12, 32],
      "experts.lora_B.weight": [24, 12],
    },
    config: PARAMETERS,
    merged: {
      "experts.down_proj": "3b20ca85d14c9e0e3a39487329db61e9c94622441b68c702e69b479868ecf71c",
      "experts.gate_up_proj": "2435dccecf9a3cae66e29d3c3119314246171fb475d8fb6140a7809c27f97fe4",
    },
  },
  "fused experts (in×out), whose change is transposed": {
    base: EXPERTS,
    adapter: {
      "experts.base_layer.lora_A.weight": [12, 32],
      "experts.base_layer.lora_B.weight": [48, 12],
      "experts.lora_A.weight": [12, 24],
      "experts.lora_B.weight": [32, 12],
    },
    config: PARAMETERS,
    merged: {
      "experts.down_proj": "537542fe2c3789d6f2135c5c1435ec75a8251497bb2f4d031876125beb9fad21",
      "experts.gate_up_proj": "16505c3a6eaefe2a629e73d17c6d671a279119f162f2ae6e1fa4f723d7f1045c",
    },
  },
  "a matrix that target_parameters names rounds its change first": {
    base: TWO,
    adapter: { "up.lora_A.weight": [4, 32], "up.lora_B.weight": [64, 4] },
    config: { target_modules: [], target_parameters: ["up.weight"] },
    merged: { "up.weight": "ef6a6418af7b997349f97d528ef0a322de03697211e4416711bf5842bfe455a4" },
  },
  "convolutions of one, two and three dimensions, with lora_bias": {
    base: CONVOLUTIONS,
    adapter: { ...KERNELS, "c1.lora_B.bias": [24], "c2.lora_B.bias": [32], "c3.lora_B.bias": [16] },
    config: { target_modules: ["c1", "c2", "c3"], lora_bias: true },
    merged: {
      "c1.bias": "667b82845e2b4c05f7059642c682bda386afa5db2ac0c4747dd0a0f57bc80305",
      "c1.weight": "50ac640a0afee9868593a4993c033eaa498d3b357538e95ca40377e72770010a",
      "c2.bias": "400a667a1c926aa919a2c612420adb53a2a907c646d14e37cb45c16d4a7aab81",
      "c2.weight": "35816e6996d24632873a49daf7bd17203fbcc6fbfd545a163e78b130fac48b46",
      "c3.bias": "ca47d5bcdd3f42c1dc0686f4b598be2b16cdd7c61f16b6ccf13d8fa442bd997b",
      "c3.weight": "b71ee63c7ab9ac26a82adc247f5422dd4d55ce5a9ba8464d62ad2bbe7a1a1eb9",
    },
  },
  "DoRA on convolutions: one length for each output": {
    base: CONVOLUTIONS,
    adapter: {
      ...KERNELS,
      "c1.lora_magnitude_vector": [1, 24, 1],
      "c2.lora_magnitude_vector": [1, 32, 1, 1],
      "c3.lora_magnitude_vector": [1, 16, 1, 1, 1],
    },
    config: { target_modules: ["c1", "c2", "c3"], use_dora: true },
    merged: {
      "c1.weight": "5ae095f18ab1041a5443384879dd72c642f9351221032761f7c8e0e0e1cfc2fa",
      "c2.weight": "2148e6d3413c72d9de7f544673266d35da436db5a70b4ae3be37efbc4c8f6e2c",
      "c3.weight": "cc68bd73b7f93975666bfe98e9a98399ff814cc09afacafd99c69a091555ba5b",
    },
  },
  "an embedding rounds its change first, a linear layer beside it does not, both scaled by rsLoRA": {
    base: { "e.weight": [40, 32], "l.bias": [40], "l.weight": [40, 32] },
    adapter: {
      "e.lora_embedding_A": [4, 40],
      "e.lora_embedding_B": [32, 4],
      "l.lora_A.weight": [4, 32],
      "l.lora_B.weight": [40, 4],
    },
    config: { target_modules: ["e", "l"], use_rslora: true },
    merged: {
      "e.weight": "3cd299052180e05d8a0a106eb92ea146677ad0c0c66f36397da0e37c3ed3931c",
      "l.weight": "1cb85f8a4ae513726322a32845229f56b6772d8274f5942716686e97c375dca8",
    },
  },
  "VeLoRA merges as LoRA, without its projections": {
    base: TWO,
    adapter: { ...PLAIN, "down.lora_velora_embed": [8], "up.lora_velora_embed": [4] },
    config: { target_modules: ["up", "down"], velora_config: { num_groups: 8 } },
    merged: {
      "down.weight": "aa2d5385403628802eb38752be17f01effb3c9fb6b7b3c750dd647e71c14ad67",
      "up.weight": "5d5a3ccbcc0b68f6ca07aa4b43124a6113e8bdde48385e3a9c1483c7b794e8d6",
    },
  },
  "MonteCLoRA merges as LoRA, without its sampler": {
    base: TWO,
    adapter: {
      ...PLAIN,
      ...Object.fromEntries(
        ["down", "up"].flatMap((module) => [
          [`${module}.lora_monteclora_sampler.expert_weights`, [8]],
          [`${module}.lora_monteclora_sampler.expert_weights_prior`, [8]],
          [`${module}.lora_monteclora_sampler.gaussian_var_prior`, [4, 4]],
          [`${module}.lora_monteclora_sampler.std_prior`, [4]],
        ]),
      ),
    },
    config: { target_modules: ["up", "down"], monteclora_config: { num_samples: 8 } },
    merged: {
      "down.weight": "aa2d5385403628802eb38752be17f01effb3c9fb6b7b3c750dd647e71c14ad67",
      "up.weight": "3890dfb46306c5035c3ef593633127cedfd842c6f0901a602bcdb932aeae1b90",
    },
  },
};

describe("LoRA gives PEFT's bytes on", () => {
  it.each(Object.entries(CASES))("%s", (_, one) => {
    expect(digests(one)).toEqual(one.merged);
  });
});
