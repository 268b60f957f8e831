import { useEffect, useRef, useState } from "react";
import { ask, newKey } from "../api.ts";
import { mergeVerifyDocument, type Refusal, type VersionFacts } from "../documents.ts";
import { isOver, nextStep } from "../jobs/events.ts";
import { ProgressView } from "../jobs/progress-view.tsx";
import { useJob } from "../jobs/use-job.ts";
import { sentence } from "../ui/format.ts";
import { Link } from "../ui/link.tsx";
import { Failure, Notice, UserErrors } from "../ui/notice.tsx";
import { Time } from "../ui/time.tsx";
import { VerdictView } from "./verdict-view.tsx";
import { readVerifyReport } from "./verification.ts";

type Merge = NonNullable<VersionFacts["merge"]>;

interface ProofProps {
  readonly version: VersionFacts;
  readonly merge: Merge;
  /** Reads the version again: a verification has ended. */
  readonly reload: () => void;
}

/** Why these bytes can be trusted: the check right after the merge, and deriving it again whenever somebody asks. */
export function ProofPanel({ version, merge, reload }: ProofProps) {
  const [started, setStarted] = useState<string | null>(null);
  const known = merge.jobs?.nodes.filter((job) => job !== null) ?? [];
  const running = known.find((job) => job.kind === "VERIFY_MERGE" && !isOver(job.state))?.id;
  // Until the version that was read again knows its end, the one started here counts as running.
  const settled = known.some((job) => job.id === started && isOver(job.state));
  const job = (settled ? null : started) ?? running ?? null;
  const verify = useVerify(version.ref, setStarted);
  // Not `disabled`: that would take the focus from the button, and from the reader.
  const idle = job === null && !verify.busy;
  const report = merge.verification && readVerifyReport(merge.verification.report);
  return (
    <section className="card stack" aria-labelledby="proof">
      <div className="head">
        <h2 id="proof">Proof</h2>
        {version.model?.viewerCanEdit && (
          <button type="button" onClick={idle ? verify.run : undefined} aria-disabled={!idle}>
            {job !== null ? "Verifying…" : report ? "Verify again" : "Verify"}
          </button>
        )}
      </div>
      <UserErrors title="It was not verified" errors={verify.errors} />
      {verify.failure ? <Failure error={verify.failure} retry={verify.run} /> : null}
      {job !== null && (
        <Running
          key={job}
          id={job}
          ended={reload}
          leave={() => {
            setStarted(null);
            reload();
          }}
        />
      )}
      {report && merge.verification ? (
        <VerdictView report={report}>
          <p className="muted small-text">
            Verified <Time iso={merge.verification.at} />
          </p>
        </VerdictView>
      ) : (
        job === null && (
          <p className="muted">
            Not verified since it was merged. <em>Verify</em> derives every tensor again from base and adapter
            and compares digests; it reads, and writes nothing.
          </p>
        )
      )}
      <Checks merge={merge} />
    </section>
  );
}

function Checks({ merge }: { readonly merge: Merge }) {
  const checks = merge.report?.checks ?? [];
  if (checks.length === 0) return null;
  return (
    <>
      <h3>Checked when it was merged</h3>
      <ul className="checks">
        {checks.map((check) => (
          <li key={check.name}>
            <span className={check.passed ? "mark good" : "mark bad"} aria-hidden="true">
              {check.passed ? "✓" : "✗"}
            </span>
            <span>
              {!check.passed && <strong>Failed: </strong>}
              {sentence(check.name)}
              <span className="muted small-text detail">{check.detail}</span>
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

interface RunningProps {
  readonly id: string;
  /** There is a verdict to read. */
  readonly ended: () => void;
  /** The reader has seen that there is none. */
  readonly leave: () => void;
}

/** A verification on its way. It goes on without this page, and a reload of the page finds it again. */
function Running({ id, ended, leave }: RunningProps) {
  const { job, error, samples, retry } = useJob(id);
  const state = job?.state ?? null;
  const succeeded = state === "SUCCEEDED";
  const latest = useRef(ended);
  latest.current = ended;
  useEffect(() => {
    if (succeeded) latest.current();
  }, [succeeded]);
  if (error) return <Failure error={error} retry={retry} />;
  if (job?.state === "FAILED" && job.error) {
    return (
      <Notice tone="bad" title={`Not verified: ${job.error.code}`}>
        <p>{job.error.message}</p>
        <p>
          <strong>Next:</strong> {nextStep(job.error.code)}
        </p>
        <Leave id={id} leave={leave} />
      </Notice>
    );
  }
  if (state === "CANCELLED") {
    return (
      <Notice tone="warn" title="The verification was cancelled">
        <Leave id={id} leave={leave} />
      </Notice>
    );
  }
  return (
    <>
      {job && <ProgressView job={job} samples={samples} framed={false} />}
      <p>
        <Link to={{ page: "job", id }}>Events of this verification</Link>
      </p>
    </>
  );
}

function Leave({ id, leave }: Omit<RunningProps, "ended">) {
  return (
    <div className="actions">
      <button type="button" onClick={leave}>
        Close
      </button>
      <Link to={{ page: "job", id }}>What happened</Link>
    </div>
  );
}

/** Starts a verification. One intent has one key, so that sending it twice (a lost answer) starts one. */
function useVerify(ref: string, onStart: (jobId: string) => void) {
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<readonly Refusal[]>([]);
  const [failure, setFailure] = useState<unknown>(null);
  const key = useRef<string | null>(null);
  const run = async () => {
    if (busy) return;
    key.current ??= newKey();
    setBusy(true);
    setErrors([]);
    setFailure(null);
    try {
      const input = { version: { ref }, idempotencyKey: key.current };
      const { mergeVerify } = await ask(mergeVerifyDocument, { input });
      key.current = null;
      setErrors(mergeVerify.userErrors);
      if (mergeVerify.job) onStart(mergeVerify.job.id);
    } catch (error) {
      setFailure(error);
    }
    setBusy(false);
  };
  return { busy, errors, failure, run };
}
