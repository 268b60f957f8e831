import type { ReactNode, Ref } from "react";

interface ScrollProps {
  readonly label: string;
  readonly children: ReactNode;
  readonly className?: string;
  readonly ref?: Ref<HTMLElement>;
}

/** A frame in which something wide or tall scrolls, so that the page does not. */
export function Scroll({ label, children, className = "scroll", ref }: ScrollProps) {
  return (
    // biome-ignore format: the suppression must stand right above the attribute
    <section
      className={className}
      aria-label={label}
      ref={ref}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
    >
      {children}
    </section>
  );
}
