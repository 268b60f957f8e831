import type { JobFacts } from "../../../src/client/documents.ts";
import type { Role, Verdict } from "../../../src/client/types.ts";
import type { JobHead } from "../documents.ts";
import { nextStep } from "../jobs/events.ts";
import { type Route, versionRoute } from "../router.ts";
import { Link } from "../ui/link.tsx";
import { Findings, Notice } from "../ui/notice.tsx";
import { candidateRef, describeFollowed, VERDICT_SENTENCES, VERDICT_TONES } from "./evaluations.ts";
import { VerdictView } from "./verdict-view.tsx";
import { readVerifyReport } from "./verification.ts";

interface OutcomeProps {
  readonly job: JobFacts;
  readonly head: JobHead;
}

/** How a job ended, and the way on from there; nothing while it runs. */
export function Outcome({ job, head }: OutcomeProps) {
  if (job.state === "FAILED" && job.error) {
    const { code, message, reasons } = job.error;
    return (
      <Notice tone="bad" title={`Failed: ${code}`}>
        {reasons.length > 0 ? <Findings findings={reasons} /> : <p>{message}</p>}
        <p>
          <strong>Next:</strong> {nextStep(code)}
        </p>
        <Again head={head} />
      </Notice>
    );
  }
  if (job.state === "CANCELLED") {
    return (
      <Notice tone="warn" title="Cancelled">
        <p>Nothing was kept. Start it again whenever you like.</p>
        <Again head={head} />
      </Notice>
    );
  }
  if (job.state !== "SUCCEEDED" || !job.result) return null;
  if (job.result.__typename === "EvaluationResult") return <Evaluated result={job.result} head={head} />;
  if (job.result.__typename === "ServingAdviceResult") return <Advised result={job.result} head={head} />;
  if (job.result.__typename !== "VerifyResult") return <Success result={job.result} head={head} />;
  const report = readVerifyReport(job.result.merge?.verification?.report);
  const verified = head.merge?.version?.ref;
  return report && <VerdictView report={report}>{verified && <Open versionRef={verified} />}</VerdictView>;
}

/** The way on from a job that gave nothing: to where it can be started again. */
function Again({ head }: { readonly head: JobHead }) {
  const { text, to } = whereAgain(head);
  return (
    <div className="actions">
      <Link to={to} className="button">
        {text}
      </Link>
    </div>
  );
}

function whereAgain({ kind, model, merge, evaluation }: JobHead): {
  readonly text: string;
  readonly to: Route;
} {
  const judged = candidateRef(evaluation?.inputs ?? []);
  if (kind === "RUN_EVALUATION" && judged) return { text: `Back to ${judged}`, to: versionRoute(judged) };
  const input = (role: Role) => merge?.inputs.find((other) => other.role === role)?.version?.ref ?? "";
  const merged = merge?.version?.ref;
  if (kind === "IMPORT_VERSION") return { text: "Import again", to: { page: "import" } };
  if (kind === "VERIFY_MERGE" && merged) return { text: `Back to ${merged}`, to: versionRoute(merged) };
  if (kind === "MEASURE_SERVING" && model)
    return { text: `Back to ${model.name}`, to: versionRoute(model.name) };
  const output = model?.name ?? "";
  return {
    text: "Back to its plan",
    to: { page: "merge", base: input("BASE"), adapter: input("ADAPTER"), output },
  };
}

type Result = NonNullable<JobFacts["result"]>;
type Made = Exclude<
  Result,
  { readonly __typename: "VerifyResult" | "EvaluationResult" | "ServingAdviceResult" }
>;

interface EvaluatedProps {
  readonly result: Extract<Result, { readonly __typename: "EvaluationResult" }>;
  readonly head: JobHead;
}

/** The verdict first, then every reason, then the way to the report. */
function Evaluated({ result, head }: EvaluatedProps) {
  const { evaluation } = result;
  if (!evaluation?.verdict) return null;
  const { verdict, reasons, reportPath } = evaluation;
  const judged = candidateRef(head.evaluation?.inputs ?? []);
  return (
    <Notice tone={VERDICT_TONES[verdict]} title={verdict}>
      <p>{VERDICT_SENTENCES[verdict]}</p>
      {reasons.length > 0 && <Findings findings={reasons.map((reason) => ({ ...reason, subject: null }))} />}
      <div className="actions">
        {reportPath && (
          <a href={`${reportPath}.html`} className="button primary">
            Report
          </a>
        )}
        {judged && (
          <Link to={versionRoute(judged)} className="button">
            Open {judged}
          </Link>
        )}
      </div>
    </Notice>
  );
}

interface AdvisedProps {
  readonly result: Extract<Result, { readonly __typename: "ServingAdviceResult" }>;
  readonly head: JobHead;
}

/** What to do first, then why. */
function Advised({ result: { advice }, head }: AdvisedProps) {
  if (!advice) return null;
  const { recommendation, reasons } = advice;
  return (
    <Notice tone="info" title={recommendation === "MERGE" ? "Merge it" : "Keep it separate"}>
      <Findings findings={reasons.map((reason) => ({ ...reason, subject: null }))} />
      {head.model && (
        <div className="actions">
          <Link to={versionRoute(head.model.name)} className="button">
            Open {head.model.name}
          </Link>
        </div>
      )}
    </Notice>
  );
}

/** What became of the evaluation that the merge named a gate for. */
function Followed({ merge }: { readonly merge: JobHead["merge"] }) {
  const text = describeFollowed(merge);
  const followed = merge?.evaluations?.nodes[0];
  if (text === null) return null;
  return (
    <p>
      {text}{" "}
      {followed?.reportPath ? (
        <a href={`${followed.reportPath}.html`}>Report</a>
      ) : (
        followed?.job && <Link to={{ page: "job", id: followed.job.id }}>Follow it</Link>
      )}
    </p>
  );
}

function Success({ result, head }: { readonly result: Made; readonly head: JobHead }) {
  const { version } = result;
  const verdict = result.__typename === "MergeResult" ? result.merge?.verdict : null;
  const cached = result.__typename === "MergeResult" && result.cached === true;
  return (
    <Notice
      tone={verdict === "FAILED" ? "bad" : "good"}
      title={cached ? "Done: this merge was made before" : "Done"}
    >
      {verdict && <p>{VERDICTS[verdict]}</p>}
      {result.__typename === "MergeResult" && <Followed merge={head.merge} />}
      {version && <Open versionRef={version.ref} />}
    </Notice>
  );
}

function Open({ versionRef }: { readonly versionRef: string }) {
  return (
    <div className="actions">
      <Link to={versionRoute(versionRef)} className="button primary">
        Open {versionRef}
      </Link>
      <Link to={versionRoute(versionRef, "lineage")} className="button">
        Lineage
      </Link>
    </div>
  );
}

const VERDICTS: Record<Verdict, string> = {
  PASSED:
    "Checked: names, shapes and types are the base's, what was not touched is identical; what was is finite and, in sampled rows, as derived. Verify derives all of it again.",
  WARNED: "Checked, with warnings: see the events.",
  FAILED: "The check found something wrong: see the events.",
};
