import { useEffect, useState } from "react";

/** Puts text on the clipboard; resolves to whether that worked. */
async function copy(text: string): Promise<boolean> {
  // Absent on plain http from another machine: the browser allows it in secure contexts only.
  if (!navigator.clipboard) return false;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

interface CopyProps {
  readonly text: string;
  /** What is copied, for people who do not see where the button stands. */
  readonly what: string;
}

export function CopyButton({ text, what }: CopyProps) {
  const [outcome, setOutcome] = useState<"copied" | "failed" | null>(null);
  useEffect(() => {
    if (outcome === null) return;
    const timer = setTimeout(() => setOutcome(null), 2000);
    return () => clearTimeout(timer);
  }, [outcome]);
  const label = outcome === "copied" ? "Copied" : outcome === "failed" ? "Select and copy by hand" : "Copy";
  return (
    <button
      type="button"
      className="small"
      onClick={async () => setOutcome((await copy(text)) ? "copied" : "failed")}
    >
      <span aria-live="polite">{label}</span>
      <span className="visually-hidden"> {what}</span>
    </button>
  );
}

/** A block of code with a title and a copy button. */
export function CodeBlock({ title, text }: { readonly title: string; readonly text: string }) {
  return (
    <figure className="code">
      <figcaption>
        <span>{title}</span>
        <CopyButton text={text} what={title} />
      </figcaption>
      {/* Scrollable regions must be reachable by keyboard. */}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: see above */}
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}
