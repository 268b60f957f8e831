import { useRef, useState } from "react";
import { ask, newKey } from "../api.ts";
import type { Refusal, VersionFacts } from "../documents.ts";
import { type EvaluationRow, evaluationStartDocument } from "../evaluation-documents.ts";
import { navigate } from "../router.ts";
import { StateChip } from "../ui/badges.tsx";
import { Link } from "../ui/link.tsx";
import { Failure, UserErrors } from "../ui/notice.tsx";
import { Time } from "../ui/time.tsx";
import { describeDivergence, evaluationOf, partOf, VERDICT_TONES } from "./evaluations.ts";

/** Whether the version does what base and adapter do: every evaluation that it is part of, the newest first. */
export function EvaluationsPanel({ version }: { readonly version: VersionFacts }) {
  const rows = version.evaluations?.nodes.filter((row) => row !== null) ?? [];
  const request = version.model?.viewerCanEdit ? evaluationOf(version) : null;
  if (rows.length === 0 && request === null) return null;
  return (
    <section className="card stack" aria-labelledby="evaluations">
      <div className="head">
        <h2 id="evaluations">Evaluations</h2>
        {request && <Start request={request} />}
      </div>
      {rows.length === 0 ? (
        <p className="muted">
          Not evaluated yet. <em>Evaluate</em> runs base and adapter beside this version over the same texts,
          and says whether they behave alike.
        </p>
      ) : (
        <ul className="findings">
          {rows.map((row) => (
            <Row key={row.id} row={row} versionRef={version.ref} />
          ))}
        </ul>
      )}
      {version.evaluations?.pageInfo.hasNextPage && (
        <p className="muted">The newest {rows.length}; the API has the rest.</p>
      )}
    </section>
  );
}

function Row({ row, versionRef }: { readonly row: EvaluationRow; readonly versionRef: string }) {
  const { verdict, state, gate, logits, reportPath, reasons, job, createdAt } = row;
  return (
    <li>
      {verdict ? (
        <span className={`badge ${VERDICT_TONES[verdict]}`}>{verdict}</span>
      ) : (
        <StateChip state={state} />
      )}{" "}
      {partOf(row, versionRef)}, gate <code>{gate.ref}</code>
      {logits && <Divergence logits={logits} />}
      {reasons.length > 0 && (
        <span className="small-text detail">{reasons.map(({ code }) => code).join(", ")}</span>
      )}
      <span className="muted small-text detail">
        <Time iso={createdAt} />
        {reportPath && (
          <>
            {" · "}
            <a href={`${reportPath}.html`}>Report</a>
          </>
        )}
        {!reportPath && job && (
          <>
            {" · "}
            <Link to={{ page: "job", id: job.id }}>Job</Link>
          </>
        )}
      </span>
    </li>
  );
}

function Divergence({ logits }: { readonly logits: NonNullable<EvaluationRow["logits"]> }) {
  return (
    <span title="Mean KL divergence of the candidate from base and adapter, in nats">
      , KLD {describeDivergence(logits)}
    </span>
  );
}

type Request = NonNullable<ReturnType<typeof evaluationOf>>;

/** Starts an evaluation and goes to its job. One intent has one key, so that sending it twice starts one. */
function Start({ request }: { readonly request: Request }) {
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
      const input = { ...request, idempotencyKey: key.current };
      const { evaluationStart } = await ask(evaluationStartDocument, { input });
      key.current = null;
      setErrors(evaluationStart.userErrors);
      if (evaluationStart.job) navigate({ page: "job", id: evaluationStart.job.id });
    } catch (error) {
      setFailure(error);
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" onClick={run} aria-disabled={busy}>
        {busy ? "Starting…" : "Evaluate"}
      </button>
      <UserErrors title="It was not started" errors={errors} />
      {failure ? <Failure error={failure} retry={run} /> : null}
    </>
  );
}
