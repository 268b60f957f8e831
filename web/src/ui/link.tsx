import type { MouseEvent, ReactNode } from "react";
import { formatRoute, navigate, type Route } from "../router.ts";

interface LinkProps {
  readonly to: Route;
  readonly children: ReactNode;
  readonly className?: string;
  readonly current?: boolean;
  readonly title?: string;
}

/** Whether a click means "go there in this tab", and not a new tab, a window or a download. */
export function isPlainClick(event: MouseEvent): boolean {
  return event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
}

/** A real link (it can be copied and opened in a new tab) that changes the page without loading it. */
export function Link({ to, children, className, current = false, title }: LinkProps) {
  const go = (event: MouseEvent) => {
    if (!isPlainClick(event)) return;
    event.preventDefault();
    navigate(to);
  };
  return (
    <a
      href={formatRoute(to)}
      onClick={go}
      className={className}
      title={title}
      aria-current={current ? "page" : undefined}
    >
      {children}
    </a>
  );
}
