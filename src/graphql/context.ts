import type { ViewerContext } from "../registry/context.ts";

/** What every resolver gets. Made anew for each request; a subscription keeps its own. */
export interface GraphContext extends ViewerContext {
  /** Named in every error and in the log. */
  readonly requestId: string;
}
