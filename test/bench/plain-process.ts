import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fingerprintsOf, finish } from "../../src/engine/digest.ts";
import { planLocal } from "../../src/engine/local.ts";
import { writeShards } from "../../src/engine/write-shards.ts";
import { copyInto } from "../../src/storage/staging.ts";

/*
 * The same work as `graftwork merge` without its digests, which that command never leaves out: for a comparison with
 * programs that take none. Prints one JSON document.
 */
const [base, adapter, out] = process.argv.slice(2) as [string, string, string];
const start_s = performance.now() / 1000;
const options = { threads: navigator.hardwareConcurrency };
const request = { base, adapter, choices: { weights: [1], tokenizer: null } };
const planned = await finish(planLocal(request, options));
const before = await fingerprintsOf(planned.base.facts);
mkdirSync(out);
const written = await finish(
  writeShards(
    {
      plan: planned.plan,
      base: planned.base,
      sources: [planned.adapter],
      staging: out,
      adopted: new Map(),
      before,
    },
    { ...options, digests: "none" },
  ),
);
for (const file of planned.plan.files) {
  if (file.from === "base") await copyInto(join(base, file.path), join(out, file.path));
}
if (written.samples.some(({ differs }) => differs)) throw new Error("a sampled element is wrong");
console.log(
  JSON.stringify({
    timing: { start_s, total_s: performance.now() / 1000 - start_s, sync_s: 0 },
    peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    threads: options.threads,
  }),
);
