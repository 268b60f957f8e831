import type { JobState, ModelKind, Verdict } from "../../../src/client/types.ts";
import { shapePath } from "../lineage/shapes.ts";
import { sentence, words } from "./format.ts";

const ICON = { x: 1, y: 2, width: 14, height: 12 };

/** What a model is, as word, shape and colour. */
export function KindBadge({ kind }: { readonly kind: ModelKind }) {
  return (
    <span className={`badge ${kind.toLowerCase()}`}>
      <svg viewBox="0 0 16 16" aria-hidden="true" focusable="false">
        <path d={shapePath(kind, ICON)} />
      </svg>
      {sentence(words(kind))}
    </span>
  );
}

const VERDICTS: Record<Verdict, readonly [tone: string, text: string, title: string]> = {
  PASSED: ["good", "✓ Checked", "The check after the merge passed"],
  WARNED: ["warn", "! Checked, with warnings", "The check after the merge passed with warnings"],
  FAILED: ["bad", "✗ Check failed", "The check after the merge failed"],
};

/** What the check after a merge found. */
export function VerdictChip({ verdict }: { readonly verdict: Verdict }) {
  const [tone, text, title] = VERDICTS[verdict];
  return (
    <span className={`badge ${tone}`} title={title}>
      {text}
    </span>
  );
}

/** What the last verification found. */
export function VerifiedChip({ identical }: { readonly identical: boolean }) {
  return identical ? (
    <span className="badge good" title="Derived again: every tensor has the recorded bytes">
      ✓ Verified
    </span>
  ) : (
    <span className="badge bad" title="Derived again: not the recorded bytes">
      ✗ Differs
    </span>
  );
}

const STATE_TONE: Record<JobState, string> = {
  QUEUED: "",
  RUNNING: "info",
  SUCCEEDED: "good",
  FAILED: "bad",
  CANCELLED: "warn",
};

export function StateChip({ state }: { readonly state: JobState }) {
  return <span className={`badge ${STATE_TONE[state]}`}>{sentence(words(state))}</span>;
}
