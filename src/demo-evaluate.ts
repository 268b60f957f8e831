import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { evaluationQuery, evaluationStartMutation } from "./client/documents.ts";
import { AppError } from "./core/errors.ts";
import { parseReport } from "./core/evaluation/schema.ts";
import {
  effectSentence,
  figureWithError,
  percent,
  percentWithError,
  timesFloorText,
} from "./core/evaluation/wording.ts";
import { follow, requireNone } from "./demo-follow.ts";
import type { DemoServer } from "./demo-server.ts";
import { say, since } from "./demo-show.ts";

const TEXTS = join(import.meta.dirname, "../test/fixtures/demo/eval.jsonl");

export interface DemoEvaluation {
  readonly base: string;
  readonly adapter: string;
  readonly merged: string;
}

/** Asks whether the merged version does what base and adapter do, over the family's held-out texts. */
export async function evaluate(
  { client, url }: Pick<DemoServer, "client" | "url">,
  { base, adapter, merged }: DemoEvaluation,
): Promise<void> {
  say(`\nEvaluate ${merged} against ${base} + ${adapter}, un-merged`);
  const started = performance.now();
  const { evaluationStart } = await client.request(evaluationStartMutation, {
    input: {
      reference: { base: { ref: base }, sources: [{ version: { ref: adapter } }] },
      candidate: { version: { ref: merged } },
      texts: { jsonl: { name: "eval.jsonl", jsonl: await readFile(TEXTS, "utf8") } },
      idempotencyKey: randomUUID(),
    },
  });
  requireNone(evaluationStart.userErrors, "evaluate");
  await follow(client, evaluationStart, `evaluate ${merged}`);
  const { evaluation } = await client.request(evaluationQuery, { id: evaluationStart.evaluation!.id });
  if (!evaluation?.report) throw new AppError("DEMO_FAILED", `the evaluation of ${merged} has no report.`);
  const { weights, logits, text } = parseReport(evaluation.report);
  if (weights?.relativeError != null) {
    say(
      `  weights: rounding cost ${percent(weights.relativeError)} of the change, ${percent(weights.moved)} of the touched weights moved`,
    );
  }
  if (logits) {
    const floor = timesFloorText(logits);
    say(
      `  logits: mean KLD ${figureWithError(logits.kld.mean)} nats${floor === null ? "" : `, ${floor}`}, same most likely token ${percentWithError(logits.sameTop)}`,
    );
    const effect = effectSentence(logits.effect);
    if (effect !== null) say(`  ${effect}`);
  }
  if (text)
    say(`  text: ${percent(text.exactMatch.value)} of ${text.prompts.length} greedy continuations are equal`);
  for (const reason of evaluation.reasons) say(`  ${reason.code}: ${reason.message}`);
  say(`  ${evaluation.verdict} under the gate ${evaluation.gate.ref} (${since(started)})`);
  say(`  report ${url}${evaluation.reportPath}.html`);
  if (evaluation.verdict !== "PASSED")
    throw new AppError("DEMO_FAILED", `${merged} did not pass its evaluation.`);
}
