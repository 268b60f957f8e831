import { Component, type ReactNode } from "react";
import { Notice } from "./notice.tsx";

interface BoundaryProps {
  readonly children: ReactNode;
}

/** A bug in a page shows as a message instead of an empty window; another address starts afresh (give it a `key`). */
export class Boundary extends Component<BoundaryProps, { readonly error: unknown }> {
  override state = { error: null as unknown };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    const { error } = this.state;
    if (error === null) return this.props.children;
    return (
      <main id="main" className="narrow">
        <Notice tone="bad" title="This page has a bug">
          <p>{error instanceof Error ? error.message : String(error)}</p>
          <div>
            <button type="button" onClick={() => window.location.reload()}>
              Load the page again
            </button>
          </div>
        </Notice>
      </main>
    );
  }
}
