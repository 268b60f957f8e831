import { describe, expect, it } from "vitest";
import { type Example, merge, refusals } from "../../support/adapters.ts";

const q = (i: number) => `model.layers.${i}.self_attn.q_proj`;
const lora = (i: number, value: number) => ({
  [`${q(i)}.lora_A.weight`]: [[value]],
  [`${q(i)}.lora_B.weight`]: [[1]],
});
const CONFIG = { peft_type: "LORA", r: 1, lora_alpha: 1, target_modules: ["q_proj"] };
const LLAMA = { model_type: "llama", architectures: ["LlamaForCausalLM"], num_hidden_layers: 2 };

const given = (layer_replication: unknown, more: Partial<Example> = {}): Example => ({
  base: {
    "model.embed_tokens.weight": [[7]],
    [`${q(0)}.weight`]: [[10]],
    [`${q(1)}.weight`]: [[20]],
    "model.layers.1.norm.weight": [5],
  },
  adapter: { ...lora(0, 1), ...lora(1, 2), ...lora(2, 3) },
  config: { ...CONFIG, layer_replication: layer_replication as never },
  model: LLAMA,
  ...more,
});

describe("replicated layers", () => {
  it("start from their own layer of the base and take their own change alone", () => {
    const merged = merge(
      given([
        [0, 2],
        [1, 2],
      ]),
    );
    expect(merged.problems).toEqual([]);
    expect([0, 1, 2].map((i) => merged.value(`${q(i)}.weight`))).toEqual([[11], [22], [23]]);
  });

  it("bring the tensors along that nothing changes, in the base's order", () => {
    const { tensors, config } = merge(
      given([
        [0, 2],
        [1, 2],
      ]),
    );
    expect([...tensors!]).toEqual([
      ["model.embed_tokens.weight", "model.embed_tokens.weight"],
      [`${q(0)}.weight`, `${q(0)}.weight`],
      [`${q(1)}.weight`, `${q(1)}.weight`],
      [`${q(2)}.weight`, `${q(1)}.weight`],
      ["model.layers.1.norm.weight", "model.layers.1.norm.weight"],
      ["model.layers.2.norm.weight", "model.layers.1.norm.weight"],
    ]);
    expect(config).toEqual({ num_hidden_layers: 3 });
  });

  it("leave out layers that no range takes", () => {
    const { tensors, problems } = merge(given([[1, 2]], { adapter: lora(0, 1) }));
    expect(problems).toEqual([]);
    expect([...tensors!.values()]).not.toContain(`${q(0)}.weight`);
  });

  it("keep their kinds in lists with an entry for each layer", () => {
    const layer_types = ["sliding_attention", "full_attention"];
    const model = { ...LLAMA, model_type: "gemma2", layer_types, eos_token_id: [1, 2] };
    const { config } = merge(
      given(
        [
          [0, 2],
          [1, 2],
        ],
        { model },
      ),
    );
    expect(config).toEqual({ num_hidden_layers: 3, layer_types: [...layer_types, "full_attention"] });
  });

  it("are counted by the field that the family has", () => {
    const { num_hidden_layers: _, ...rest } = LLAMA;
    const { config } = merge(
      given(
        [
          [0, 2],
          [1, 2],
        ],
        { model: { ...rest, n_layer: 2 } },
      ),
    );
    expect(config).toEqual({ n_layer: 3 });
  });

  it("start from a copy of the base that the adapter carries", () => {
    const adapter = { ...given([]).adapter, [`${q(2)}.base_layer.weight`]: [[100]] };
    expect(
      merge(
        given(
          [
            [0, 2],
            [1, 2],
          ],
          { adapter },
        ),
      ).value(`${q(2)}.weight`),
    ).toEqual([103]);
  });

  it.each([[[[0, 3]]], [[[1, 1]]], [[[0]]], ["0-2"], [[[-1, 1]]]])("are refused with ranges %j", (ranges) => {
    expect(refusals(given(ranges))).toContain("BAD_ADAPTER_CONFIG");
  });

  it("are refused where layers differ by their position, or where it is not clear what the layers are", () => {
    const model = { ...LLAMA, first_k_dense_replace: 1 };
    expect(
      refusals(
        given(
          [
            [0, 2],
            [1, 2],
          ],
          { model },
        ),
      ),
    ).toContain("UNSUPPORTED_REPLICATION");
    const gemma = { ...LLAMA, model_type: "gemma2" };
    expect(
      refusals(
        given(
          [
            [0, 2],
            [1, 2],
          ],
          { model: gemma },
        ),
      ),
    ).toContain("UNSUPPORTED_REPLICATION");
    const base = { ...given([]).base, "vision.layers.0.weight": [[1]] };
    expect(
      refusals(
        given(
          [
            [0, 2],
            [1, 2],
          ],
          { base },
        ),
      ),
    ).toContain("UNSUPPORTED_REPLICATION");
  });
});
