import { useState } from "react";
import type { JobEvent, JobFacts } from "../../../src/client/documents.ts";
import { ask } from "../api.ts";
import { type JobHead, jobCancelDocument, type Refusal } from "../documents.ts";
import { describeEvent, eventTitle, eventTone, isOver } from "../jobs/events.ts";
import { ProgressView } from "../jobs/progress-view.tsx";
import { useJob } from "../jobs/use-job.ts";
import { StateChip } from "../ui/badges.tsx";
import { formatDuration, formatUtc } from "../ui/format.ts";
import { Failure, Notice, UserErrors } from "../ui/notice.tsx";
import { Loading, Page } from "../ui/page.tsx";
import { Time } from "../ui/time.tsx";
import { candidateRef } from "./evaluations.ts";
import { Outcome } from "./job-outcome.tsx";
import { MissingPage } from "./missing.tsx";

const TITLES = { IMPORT_VERSION: "Import", RUN_MERGE: "Merge" };

export function JobPage({ id }: { readonly id: string }) {
  const followed = useJob(id);
  const { job, head, missing, error, events, live, retry } = followed;
  if (missing) return <MissingPage what="There is no job with this address that you may see." />;
  if (!job || !head) {
    return (
      <Page title="Job" narrow>
        {error ? <Failure error={error} retry={retry} /> : <Loading what="the job" />}
      </Page>
    );
  }
  const over = isOver(job.state);
  return (
    <Page
      title={jobTitle(job, head)}
      above={
        <div>
          <StateChip state={job.state} />
        </div>
      }
      lead={<Times head={head} attempt={job.attempt} />}
      actions={!over && <Cancel id={job.id} />}
      narrow
    >
      <Outcome job={job} head={head} />
      {!over && <ProgressView job={job} samples={followed.samples} />}
      {error ? <Failure error={error} retry={retry} /> : null}
      {!live && (
        <Notice tone="warn" title="The server does not answer">
          <p>Trying again. The job goes on without this page, and nothing it says is missed.</p>
        </Notice>
      )}
      <section className="stack">
        <h2>Events</h2>
        {events.length === 0 ? <Loading what="events" /> : <Events events={events} since={head.createdAt} />}
      </section>
      {!over && <p className="muted">You can leave this page: its address brings you back.</p>}
    </Page>
  );
}

function jobTitle({ kind }: JobFacts, { model, merge, evaluation }: JobHead): string {
  if (kind === "RUN_EVALUATION") {
    const judged = candidateRef(evaluation?.inputs ?? []);
    return `Evaluation${judged ? ` of ${judged}` : model ? ` of a recipe with ${model.name}` : ""}`;
  }
  if (kind === "MEASURE_SERVING") return `Advice on serving${model ? ` ${model.name}` : ""}`;
  if (kind === "VERIFY_MERGE") return `Verification${merge?.version ? ` of ${merge.version.ref}` : ""}`;
  return `${TITLES[kind]}${model ? ` into ${model.name}` : ""}`;
}

function Times({ head, attempt }: { readonly head: JobHead; readonly attempt: number }) {
  const { createdAt, startedAt, finishedAt } = head;
  const took = startedAt && finishedAt ? (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000 : null;
  return (
    <>
      Asked for <Time iso={createdAt} />
      {took !== null && `; took ${formatDuration(took)}`}
      {attempt > 1 && `; attempt ${attempt}`}
    </>
  );
}

function Cancel({ id }: { readonly id: string }) {
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<readonly Refusal[]>([]);
  const [failure, setFailure] = useState<unknown>(null);
  const cancel = async () => {
    setBusy(true);
    setFailure(null);
    try {
      const { jobCancel } = await ask(jobCancelDocument, { input: { job: id } });
      setErrors(jobCancel.userErrors);
    } catch (error) {
      setFailure(error);
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" className="danger" onClick={cancel} disabled={busy}>
        {busy ? "Cancelling…" : "Cancel"}
      </button>
      <UserErrors title="It was not cancelled" errors={errors} />
      {failure ? <Failure error={failure} retry={cancel} /> : null}
    </>
  );
}

function Events({ events, since }: { readonly events: readonly JobEvent[]; readonly since: string }) {
  const start = Date.parse(since);
  return (
    <ol className="events card" aria-live="polite" aria-relevant="additions">
      {events.map((event) => (
        <li key={event.number}>
          <span className="seq">{event.number}</span>
          <time className="at" dateTime={event.at} title={formatUtc(event.at)}>
            + {formatDuration(Math.max(0, Date.parse(event.at) - start) / 1000)}
          </time>
          <span>
            <span className={`badge ${eventTone(event.type)}`}>{eventTitle(event.type)}</span>
          </span>
          <span className="said">{describeEvent(event)}</span>
        </li>
      ))}
    </ol>
  );
}
