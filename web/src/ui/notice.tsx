import { type ReactNode, useEffect } from "react";
import { GraphqlFailure } from "../../../src/client/failure.ts";
import type { Finding } from "../../../src/client/types.ts";
import { describeProblem } from "../api.ts";
import type { Refusal } from "../documents.ts";
import { useSession } from "../session.tsx";

interface NoticeProps {
  readonly tone: "info" | "good" | "warn" | "bad";
  readonly title: string;
  readonly children?: ReactNode;
}

/** A framed message. Problems are announced at once, the rest when the reader pauses. */
export function Notice({ tone, title, children }: NoticeProps) {
  return (
    <div className={`notice ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      <h3>{title}</h3>
      {children}
    </div>
  );
}

/** With more than this, only the first few of each code are open: an adapter of another base has one a module. */
const MANY = 8;
const OPEN = 2;

/** Reasons or warnings, each with its code. Many of them are gathered by code, so that every kind is seen at once. */
export function Findings({ findings }: { readonly findings: readonly Finding[] }) {
  if (findings.length <= MANY) return <FindingList findings={findings} />;
  const groups = [...Map.groupBy(findings, (finding) => finding.code)];
  return (
    <div className="stack">
      {groups.map(([code, group]) => (
        <div key={code} className="stack">
          <FindingList findings={group.slice(0, OPEN)} />
          {group.length > OPEN && (
            <details>
              <summary>
                {group.length - OPEN} more {code}
              </summary>
              <FindingList findings={group.slice(OPEN)} />
            </details>
          )}
        </div>
      ))}
    </div>
  );
}

function FindingList({ findings }: { readonly findings: readonly Finding[] }) {
  return (
    <ul className="findings">
      {findings.map((finding) => (
        <li key={`${finding.code} ${finding.subject ?? ""} ${finding.message}`}>
          <code>{finding.code}</code> {finding.message}
        </li>
      ))}
    </ul>
  );
}

/** What the API refused, with every reason it gave. */
export function UserErrors({
  title,
  errors,
}: {
  readonly title: string;
  readonly errors: readonly Refusal[];
}) {
  useSessionCheck(errors.some((error) => error.code === "UNAUTHENTICATED"));
  if (errors.length === 0) return null;
  return (
    <Notice tone="bad" title={title}>
      {errors.map((error) =>
        error.reasons && error.reasons.length > 0 ? (
          <Findings key={error.code + error.message} findings={error.reasons} />
        ) : (
          <Findings key={error.code + error.message} findings={[{ ...error, subject: null }]} />
        ),
      )}
    </Notice>
  );
}

/** Asks who is signed in when the server says that nobody is: the session may have ended. */
function useSessionCheck(needed: boolean): void {
  const { refresh } = useSession();
  useEffect(() => {
    if (needed) refresh();
  }, [needed, refresh]);
}

/** A request that got no answer: what happened, and a way to try again. */
export function Failure({ error, retry }: { readonly error: unknown; readonly retry?: () => void }) {
  const { title, detail, code } = describeProblem(error);
  useSessionCheck(error instanceof GraphqlFailure && error.code === "UNAUTHENTICATED");
  return (
    <Notice tone="bad" title={title}>
      <p>
        {code && <code>{code}</code>} {detail}
      </p>
      {retry && (
        <div>
          <button type="button" onClick={retry}>
            Try again
          </button>
        </div>
      )}
    </Notice>
  );
}
