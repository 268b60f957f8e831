import type { JobFacts, Started } from "./client/documents.ts";
import { followJob } from "./client/follow.ts";
import type { Client } from "./client/index.ts";
import type { UserError } from "./client/types.ts";
import { AppError } from "./core/errors.ts";
import { showProgress } from "./demo-show.ts";

/** Waits for what a mutation started, and shows how far it is. @throws whatever it ended with other than success */
export async function follow(client: Client, started: Started, what: string): Promise<JobFacts> {
  requireNone(started.userErrors, what);
  const work = followJob(client, started.job!.id, { progressEvery: 200 });
  let step = await work.next();
  while (!step.done) {
    if (step.value.job) showProgress(step.value.job);
    step = await work.next();
  }
  const { state, error } = step.value;
  if (state === "SUCCEEDED") return step.value;
  throw new AppError(error?.code ?? state, `${what}: ${error?.message ?? `the job ended ${state}`}`);
}

/** @throws the first user error */
export function requireNone(errors: readonly UserError[], what: string): void {
  const [first] = errors;
  if (first) throw new AppError(first.code, `${what}: ${errors.map((error) => error.message).join(" ")}`);
}
