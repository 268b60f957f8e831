import { basename } from "node:path";
import type { DeviceName } from "../core/devices.ts";
import { parseTexts, type TextDocument } from "../core/evaluation/texts.ts";
import { counted } from "../core/evaluation/wording.ts";
import { ENGINE } from "../core/record.ts";
import type { TokenInput } from "../core/token-rows.ts";
import { encodeDocument } from "../engine/evaluation/encode.ts";
import { locateReference } from "../engine/evaluation/local.ts";
import { type RunnableModel, runnableModel } from "../engine/evaluation/model-sides.ts";
import { writeRaw } from "../engine/evaluation/raw-logits.ts";
import { TextTokenizer } from "../engine/evaluation/tokenizer.ts";
import { requireOutside } from "../storage/beside.ts";
import { readText } from "../storage/folder.ts";
import { requireNew } from "../storage/tensor-file.ts";
import { readTokenFile } from "../storage/token-file.ts";
import { type CommandContext, type Outcome, textOf, textsOf, type Values } from "./command.ts";
import { bytes, seconds } from "./format.ts";
import { adaptersOf } from "./reference.ts";
import { findingLines } from "./request.ts";

/** `logits`: raw numbers of a model, for comparison with any other tool's. */
export async function run({ values, engine, watch }: CommandContext): Promise<Outcome> {
  const started = performance.now();
  const output = textOf(values, "out")!;
  await requireNew(output);
  const folder = textOf(values, "model")!;
  const adapters = await adaptersOf(values);
  const { base, sources, notices } = await watch(locateReference({ base: folder, adapters }, engine));
  await requireOutside(output, [base.folder, ...sources.map((source) => source.folder)]);
  const model = runnableModel({ base, sources });
  const inputs = await inputsOf(values, model);
  const device = (textOf(values, "device") ?? "cpu") as DeviceName;
  const metadata = {
    format: "pt",
    writer: `${ENGINE.name} ${ENGINE.version}`,
    model: [folder, ...adapters.map((adapter) => `${adapter.folder}=${adapter.weight}`)].join(" + "),
  };
  const hidden = values.hidden === true;
  const summary = await watch(writeRaw({ model, inputs, output, hidden, device, metadata }, engine));
  const total_s = (performance.now() - started) / 1000;
  const names = inputs.map(({ prefix }) => prefix.replace(/\.$/, ""));
  return {
    document: {
      output,
      ...summary,
      names,
      device,
      warnings: notices,
      timing: { total_s },
      peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    },
    lines: [
      `wrote ${output}: ${summary.outputs.map(({ name }) => name).join(", ")} of ${counted(summary.texts, "text")}, ${counted(summary.tokens, "token")}; ${bytes(summary.bytes)}`,
      ...findingLines("warning", notices),
      seconds(total_s),
    ],
  };
}

async function inputsOf(values: Values, model: RunnableModel): Promise<TokenInput[]> {
  const input = textOf(values, "input");
  if (input?.endsWith(".safetensors")) return await readTokenFile(input);
  const documents: readonly TextDocument[] =
    input === undefined
      ? textsOf(values, "text").map((text) => ({ text }))
      : parseTexts(basename(input), await readText(input)).documents;
  const tokenizer = await TextTokenizer.open(model.tokenizer);
  return documents.map((document, i) => {
    const ids = Int32Array.from(encodeDocument(tokenizer, document, { chat: false, prompting: false }));
    return { prefix: `text.${i}.`, shape: [ids.length], rows: [{ ids, begin: 0 }] };
  });
}
