import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { compile, isWhole } from "../../src/engine/compile.ts";
import { finish } from "../../src/engine/digest.ts";
import { fastUpdate } from "../../src/engine/fast-update.ts";
import { planLocal } from "../../src/engine/local.ts";
import { graphOf } from "../../src/engine/program-leaves.ts";
import { tensorTasks } from "../../src/engine/tasks.ts";

const CASES = join(import.meta.dirname, "../fixtures/merge");
const read = (...path: string[]) => JSON.parse(readFileSync(join(CASES, ...path), "utf8"));

/** A case of every kind of adapter that merges, and those of LoRA's variants. */
function chosenCases(): string[] {
  const seen = new Set<string>();
  return readdirSync(CASES).filter((name) => {
    const { adapter, want } = read(name, "case.json");
    if (want.verdict === "refuse") return false;
    const { peft_type: type } = read(name, adapter, "adapter_config.json");
    const first = !seen.has(type);
    seen.add(type);
    return (
      first || /-(dora|kasa|mica|experts|tied-embed|rows|conv|bias|c-attn|gs|low|bat|topk|[24])/.test(name)
    );
  });
}

/** How each tensor of a case is computed, each way once. */
async function waysOf(name: string): Promise<string[]> {
  const { base, adapter } = read(name, "case.json");
  const request = {
    base: join(CASES, name, base),
    adapter: join(CASES, name, adapter),
    choices: { weights: [1], tokenizer: null },
  };
  const { plan, ...inputs } = await finish(planLocal(request, { threads: 1 }));
  const ways = new Set<string>();
  for (const task of tensorTasks({ plan, base: inputs.base, sources: [inputs.adapter] })) {
    if (!task.program) continue;
    const { root, dtypes, ...graph } = graphOf(task);
    if (fastUpdate(task, { root, dtypes, ...graph })) {
      ways.add("in place");
      continue;
    }
    const program = compile({ root, dtypes, exact: false });
    ways.add(isWhole(program) ? "whole" : "tiles");
    // A value of a base tensor that no pass over its rows gives is in memory as a whole.
    for (const { node } of program.prepared) if (node.readsBase) ways.add(`after ${node.expr.op}`);
  }
  return [...ways];
}

test("every kind is computed in place or tile by tile, but for the decomposition that KaSA needs", async () => {
  const found = new Map<string, string[]>();
  for (const name of chosenCases()) found.set(name, await waysOf(name));
  const other = [...found].filter(([, ways]) => ways.some((way) => way !== "in place" && way !== "tiles"));
  expect(found.size).toBeGreaterThan(40);
  expect(Object.fromEntries(other)).toEqual({
    // One pass over the rows before: lengths of columns, products from the left.
    "gpt2-dora": ["tiles", "after div"],
    peanut: ["tiles", "after relu"],
    deft: ["tiles", "after sub"],
    // A singular value decomposition of the weight.
    "llama-kasa": ["tiles", "after call"],
  });
});
