import { type JobEvent, type JobFacts, jobEventsSubscription, jobQuery } from "./documents.ts";
import { GraphqlFailure, isUnreachable } from "./failure.ts";
import type { Client } from "./index.ts";

export interface FollowOptions {
  readonly signal?: AbortSignal;
  /** Begin after this cursor; default: with the first event. */
  readonly after?: string | null;
  /** How often the progress is read, in milliseconds; default 500. */
  readonly progressEvery?: number;
  /** How long a server may be unreachable before that is an error, in milliseconds; default 60 s. */
  readonly patience?: number;
}

/** What is new of a job: an event, or how far it is. */
export type JobUpdate =
  | { readonly event: JobEvent; readonly job?: never }
  | { readonly job: JobFacts; readonly event?: never };

const RETRY_MS = 500;
const HELD_MS = 5000;

/**
 * Follows a job to its end and returns it. Every event comes exactly once and in order, also when the connection
 * breaks and comes back: it is taken up again behind the last cursor. Progress is read on a timer in between.
 * @throws GraphqlFailure when the job is not there, the server stays away longer than `patience`, or `signal` aborts
 */
export async function* followJob(
  client: Client,
  jobId: string,
  options: FollowOptions = {},
): AsyncGenerator<JobUpdate, JobFacts> {
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const box = new Mailbox();
  const events = pumpEvents({ client, jobId, options, signal, box });
  const timer = setInterval(() => box.put("tick"), options.progressEvery ?? 500);
  const leave = () =>
    box.put(new GraphqlFailure([{ message: "Following was stopped." }], { code: "ABORTED" }));
  options.signal?.addEventListener("abort", leave);
  try {
    yield { job: await readJob(client, jobId, signal) };
    for (;;) {
      const news = await box.take();
      if (news === "ended") return await readJob(client, jobId, options.signal);
      // An answer that does not come is no reason to stop: the event stream decides that the server is away.
      if (news === "tick") {
        const job = await readJob(client, jobId, signal).catch((error) => ignoreUnreachable(error));
        if (job) yield { job };
      } else if (news instanceof Error) throw news;
      else yield { event: news };
    }
  } finally {
    clearInterval(timer);
    options.signal?.removeEventListener("abort", leave);
    stop.abort();
    await events;
  }
}

async function readJob(client: Client, id: string, signal: AbortSignal | undefined): Promise<JobFacts> {
  const { job } = await client.request(jobQuery, { id }, signal ? { signal } : {});
  if (job) return job;
  throw new GraphqlFailure([{ message: `Job ${id} does not exist, or you may not see it.` }], {
    code: "NOT_FOUND",
  });
}

function ignoreUnreachable(error: unknown): null {
  if (isUnreachable(error)) return null;
  throw error;
}

type News = JobEvent | "tick" | "ended" | Error;

interface Pump {
  readonly client: Client;
  readonly jobId: string;
  readonly options: FollowOptions;
  readonly signal: AbortSignal;
  readonly box: Mailbox;
}

async function pumpEvents({ client, jobId, options, signal, box }: Pump): Promise<void> {
  let after = options.after ?? null;
  let brokenSince: number | null = null;
  while (!signal.aborted) {
    const began = Date.now();
    try {
      for await (const { jobEvents } of client.subscribe(
        jobEventsSubscription,
        { jobId, after },
        { signal },
      )) {
        after = jobEvents.cursor;
        brokenSince = null;
        box.put(jobEvents);
      }
      // The server ends the stream behind the last event, and for a job that ended before `after`.
      if (!signal.aborted) box.put("ended");
      return;
    } catch (error) {
      if (signal.aborted) return;
      // A stream that held for a while was a connection, even if nothing happened to the job meanwhile.
      if (brokenSince === null || Date.now() - began > HELD_MS) brokenSince = Date.now();
      if (!isUnreachable(error) || Date.now() - brokenSince > (options.patience ?? 60_000)) {
        box.put(error as Error);
        return;
      }
      await pause(RETRY_MS, signal);
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** What the event stream and the timer put in, taken out one by one; a tick waits for nothing to be read before it. */
class Mailbox {
  readonly #waiting: News[] = [];
  #wake: (() => void) | null = null;

  put(news: News): void {
    if (news === "tick" && this.#waiting.length > 0) return;
    this.#waiting.push(news);
    this.#wake?.();
  }

  async take(): Promise<News> {
    while (this.#waiting.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#waiting.shift()!;
  }
}
