import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readTensors, writeTensors } from "../support/tensor-files.ts";
import { legacyTorchFile, type TestStateTensor, torchZip } from "../support/torch-file.ts";

const STORAGES: Readonly<Record<string, string>> = {
  F32: "FloatStorage",
  F16: "HalfStorage",
  BF16: "BFloat16Storage",
  I64: "LongStorage",
  I32: "IntStorage",
};

/** Replaces an adapter's safetensors file, where it has one, by what torch.save makes of its tensors. */
export async function asTorchFile(folder: string, legacy: boolean): Promise<void> {
  const path = join(folder, "adapter_model.safetensors");
  const tensors = await readTensors(path).catch(() => null);
  if (!tensors) return;
  const state = [...tensors].map(([name, { dtype, shape, bytes }]): TestStateTensor => {
    return { name, shape, data: bytes, type: STORAGES[dtype] ?? "FloatStorage" };
  });
  await rm(path);
  await writeFile(join(folder, "adapter_model.bin"), (legacy ? legacyTorchFile : torchZip)(state));
}

/** Turns the LoRA factors of a PEFT adapter into a file that looks like mlx-lm's; other tensors are left out. */
export async function asMlx(folder: string): Promise<void> {
  const path = join(folder, "adapter_model.safetensors");
  const tensors = await readTensors(path).catch(() => null);
  if (!tensors) return;
  const config = JSON.parse(await readFile(join(folder, "adapter_config.json"), "utf8"));
  const factors = [...tensors].flatMap(([name, tensor]) => {
    const match = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(name);
    if (!match) return [];
    const key = `${match[1]}.lora_${match[2]!.toLowerCase()}`;
    // The values of a transposed matrix do not matter here, its shape does.
    return [[key, { ...tensor, shape: [...tensor.shape].reverse() }] as const];
  });
  await rm(path);
  await rm(join(folder, "adapter_config.json"));
  await writeTensors(join(folder, "adapters.safetensors"), new Map(factors));
  await writeFile(
    join(folder, "adapter_config.json"),
    JSON.stringify({
      fine_tune_type: "lora",
      num_layers: -1,
      lora_parameters: { rank: config.r ?? 8, scale: 2, dropout: 0, keys: null },
    }),
  );
}
