import type { ReactNode } from "react";
import { formatWhole, shortDigest } from "../ui/format.ts";
import { Notice } from "../ui/notice.tsx";
import type { Difference, VerifyReport } from "./verification.ts";

/** More differences than this are counted, not listed: a changed base makes every tensor differ. */
const LISTED = 50;

interface VerdictProps {
  readonly report: VerifyReport;
  /** When, or what to do next. */
  readonly children?: ReactNode;
}

/** What deriving a merge again showed: the verdict first, then everything that differs. */
export function VerdictView({ report, children }: VerdictProps) {
  const { identical, tensors, differences } = report;
  if (identical) {
    return (
      <Notice tone="good" title="IDENTICAL">
        <p>
          Derived again from base and adapter: all {formatWhole(tensors)} tensors have the recorded bytes.
        </p>
        {children}
      </Notice>
    );
  }
  const title =
    differences.length === 1
      ? "DIFFERENT: 1 difference"
      : `DIFFERENT: ${formatWhole(differences.length)} differences`;
  return (
    <Notice tone="bad" title={title}>
      <p>These are not the bytes that the recipe gives, or no longer. Do not rely on this version.</p>
      <Differences differences={differences.slice(0, LISTED)} />
      {differences.length > LISTED && (
        <p>
          The first {LISTED} of {formatWhole(differences.length)}; the API has the rest.
        </p>
      )}
      {children}
    </Notice>
  );
}

function Differences({ differences }: { readonly differences: readonly Difference[] }) {
  return (
    <ul className="findings" aria-label="Differences">
      {differences.map(({ name, what, expected, actual }) => (
        <li key={`${name} ${what}`}>
          <code>{name}</code> {what}
          <span className="small-text detail">
            recorded <Found digest={expected} />, found <Found digest={actual} />
          </span>
        </li>
      ))}
    </ul>
  );
}

function Found({ digest }: { readonly digest: string | null }) {
  return digest === null ? <>nothing</> : <code title={digest}>{shortDigest(digest)}</code>;
}
