import type { ReactNode } from "react";
import type { Finding } from "../../../src/client/types.ts";
import { describeProblem } from "../api.ts";
import type { Refusal } from "../documents.ts";

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

/** Reasons or warnings, each with its code. */
export function Findings({ findings }: { readonly findings: readonly Finding[] }) {
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

/** A request that got no answer: what happened, and a way to try again. */
export function Failure({ error, retry }: { readonly error: unknown; readonly retry?: () => void }) {
  const { title, detail, code } = describeProblem(error);
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
