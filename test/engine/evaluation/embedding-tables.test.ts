import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { finish } from "../../../src/engine/digest.ts";
import { recipeSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { planLocal } from "../../../src/engine/local.ts";

import { logitsOf } from "../../support/logits-of-side.ts";
import { relativeDifference } from "../../support/merge-cases.ts";
import { safetensorsFile } from "../../support/safetensors.ts";

/*
 * Factors on tables that rows are taken from: of positions and of segments no less than of tokens. The other side is
 * the merge's own result in float32, which has no branches.
 */

const MODELS = resolve(import.meta.dirname, "../../fixtures/models");
const RANK = 2;
const HIDDEN = 64;

interface Table {
  readonly module: string;
  readonly rows: number;
}

const floats = (count: number, step: number) =>
  new Uint8Array(Float32Array.from({ length: count }, (_, i) => Math.sin(i * step + step) / 4).buffer);

async function adapterOn(tables: readonly Table[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "graftwork-tables-"));
  const config = {
    peft_type: "LORA",
    r: RANK,
    lora_alpha: 4,
    target_modules: tables.map(({ module }) => module.split(".").at(-1)!),
  };
  await writeFile(join(folder, "adapter_config.json"), JSON.stringify(config));
  const tensors = tables.flatMap(({ module, rows }, i) => [
    {
      name: `base_model.model.${module}.lora_embedding_A`,
      dtype: "F32" as const,
      shape: [RANK, rows],
      bytes: floats(RANK * rows, 0.7 + i),
    },
    {
      name: `base_model.model.${module}.lora_embedding_B`,
      dtype: "F32" as const,
      shape: [HIDDEN, RANK],
      bytes: floats(HIDDEN * RANK, 1.1 + i),
    },
  ]);
  await writeFile(join(folder, "adapter_model.safetensors"), safetensorsFile(tensors));
  return folder;
}

async function bothSides(model: string, tables: readonly Table[]) {
  const request = {
    base: join(MODELS, model),
    adapter: await adapterOn(tables),
    choices: { weights: [1], tokenizer: null },
  };
  const { plan, base, adapter } = await finish(planLocal(request, { threads: 1 }));
  const sources = [{ ...adapter, weight: 1 }];
  const reference = referenceSide({ base, sources, choices: request.choices });
  return { reference, merged: recipeSide(plan, base, [adapter]) };
}

describe("factors beside an embedding's tables", () => {
  it.each([
    ["gpt2-fp32", [{ module: "transformer.wpe", rows: 64 }]],
    ["gpt2-fp32", [{ module: "transformer.wte", rows: 128 }]],
    [
      "bert-score-fp32",
      [
        { module: "bert.embeddings.position_embeddings", rows: 64 },
        { module: "bert.embeddings.token_type_embeddings", rows: 2 },
      ],
    ],
  ])("act as merged ones do: %s %j", async (model, tables) => {
    const { reference, merged } = await bothSides(model, tables);
    expect(reference.forms.branches).toBe(tables.length);
    expect(relativeDifference(await logitsOf(reference), await logitsOf(merged))).toBeLessThan(1e-5);
  });
});
