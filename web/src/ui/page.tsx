import { type ReactNode, useEffect, useRef } from "react";

interface PageProps {
  readonly title: string;
  /** Above the title, e.g. where it belongs. */
  readonly above?: ReactNode;
  readonly lead?: ReactNode;
  readonly actions?: ReactNode;
  readonly narrow?: boolean;
  readonly children: ReactNode;
}

/** Where the heading last had its turn to take the focus; null before the first page. */
let focusedAt: string | null = null;

/** The next page takes the focus although the address stays: what had it is about to go away. */
export function focusNextPage(): void {
  focusedAt = "";
}

/**
 * The frame of every page. Another page takes the focus to its heading, as loading one would; a title that only gets
 * known while the page loads does not, for the reader may be elsewhere by then.
 */
export function Page({ title, above, lead, actions, narrow = false, children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Graftwork`;
    const { pathname } = window.location;
    if (focusedAt !== null && focusedAt !== pathname) heading.current?.focus({ preventScroll: true });
    focusedAt = pathname;
  }, [title]);
  return (
    <main id="main" className={narrow ? "narrow" : undefined}>
      <div className="head">
        <div className="head-text">
          {above}
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {lead && <p className="lead">{lead}</p>}
        </div>
        {actions && <div className="actions">{actions}</div>}
      </div>
      {children}
    </main>
  );
}

export function Loading({ what }: { readonly what: string }) {
  return (
    <p className="muted" role="status">
      Loading {what}…
    </p>
  );
}
