import { useCallback, useEffect, useState } from "react";
import type { JobEvent, JobFacts } from "../../../src/client/documents.ts";
import { GraphqlFailure } from "../../../src/client/failure.ts";
import { followJob } from "../../../src/client/follow.ts";
import { ask, client } from "../api.ts";
import { type JobHead, jobHeadDocument } from "../documents.ts";
import { addEvent, isOver } from "./events.ts";
import { addSample, type Sample } from "./progress.ts";

/** Progress is read every half second, so a silence this long means that the server is away. */
const SILENCE_MS = 4000;
const WATCH_MS = 1000;

export interface FollowedJob {
  readonly job: JobFacts | null;
  readonly head: JobHead | null;
  readonly missing: boolean;
  readonly error: unknown;
  readonly events: readonly JobEvent[];
  readonly samples: readonly Sample[];
  /** False while the server does not answer and is being tried again. */
  readonly live: boolean;
  /** Takes it up again after an error. */
  readonly retry: () => void;
}

interface State extends Omit<FollowedJob, "retry" | "live" | "head"> {
  readonly heardAt: number;
}

const NOTHING: State = { job: null, missing: false, error: null, events: [], samples: [], heardAt: 0 };

/**
 * A job with everything that happened to it, live. All of it comes from the server, so a reload of the page shows
 * the same; a dropped connection is taken up again behind the last event, so none is lost or doubled.
 */
export function useJob(id: string): FollowedJob {
  const [state, setState] = useState(NOTHING);
  const [round, setRound] = useState(0);
  const retry = useCallback(() => setRound((n) => n + 1), []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `round` stands for retry()
  useEffect(() => {
    const abort = new AbortController();
    setState({ ...NOTHING, heardAt: performance.now() });
    const change = (step: (before: State) => State) => {
      if (!abort.signal.aborted) setState((before) => ({ ...step(before), heardAt: performance.now() }));
    };
    void follow(id, abort.signal, change);
    return () => abort.abort();
  }, [id, round]);
  const over = state.job !== null && isOver(state.job.state);
  const head = useHead(id, state.events.length, over);
  const live = useHeard(state.heardAt, over || state.error !== null);
  return { ...state, head, live, retry };
}

async function follow(
  id: string,
  signal: AbortSignal,
  change: (step: (before: State) => State) => void,
): Promise<void> {
  try {
    const updates = followJob(client, id, { signal, patience: Number.POSITIVE_INFINITY });
    for (;;) {
      const { done, value } = await updates.next();
      if (done) return change((before) => withFacts(before, value));
      const { event, job } = value;
      if (event) change((before) => ({ ...before, events: addEvent(before.events, event) }));
      else change((before) => withFacts(before, job));
    }
  } catch (error) {
    const missing = error instanceof GraphqlFailure && error.code === "NOT_FOUND";
    change((before) => ({ ...before, missing, error: missing ? null : error }));
  }
}

function withFacts(before: State, job: JobFacts): State {
  const { progress } = job;
  if (!progress) return { ...before, job };
  const sample = { stage: progress.stage, done: Number(progress.done), total: Number(progress.total) };
  return { ...before, job, samples: addSample(before.samples, { at: performance.now(), ...sample }) };
}

/** What changes only with an event, read again after each. */
function useHead(id: string, events: number, over: boolean): JobHead | null {
  const [head, setHead] = useState<JobHead | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: every event and the end may have changed it
  useEffect(() => {
    const abort = new AbortController();
    ask(jobHeadDocument, { id }, abort.signal).then(
      ({ job }) => {
        if (!abort.signal.aborted) setHead(job);
      },
      // Whether the server is away is told by the stream of events.
      () => {},
    );
    return () => abort.abort();
  }, [id, events, over]);
  return head;
}

function useHeard(heardAt: number, finished: boolean): boolean {
  const [silent, setSilent] = useState(false);
  useEffect(() => {
    setSilent(false);
    if (finished) return;
    const timer = setInterval(() => setSilent(performance.now() - heardAt > SILENCE_MS), WATCH_MS);
    return () => clearInterval(timer);
  }, [heardAt, finished]);
  return !silent;
}
