import { openQueue } from "../../src/registry/queue.ts";

// A worker that a test kills in the middle of a job.
const [, , url = ""] = process.argv;
const queue = await openQueue({ url, superviseSeconds: 1 });
await queue.work("RUN_MERGE", 1, async ({ jobId }) => {
  process.send?.(jobId);
  await new Promise(() => {});
});
