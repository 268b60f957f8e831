import type { PageInfo } from "../../../src/client/types.ts";
import type { Route } from "../router.ts";
import { formatWhole } from "./format.ts";
import { Link } from "./link.tsx";

interface PagerProps {
  readonly shown: number;
  readonly total: number | null;
  /** The plural, e.g. `tensors`. */
  readonly what: string;
  readonly pageInfo: PageInfo;
  /** The address of this list from a cursor on; null: from the start. */
  readonly at: (after: string | null) => Route;
  readonly after: string | null;
}

/** How many of how many, and the way on. The way back is the browser's, and "First page". */
export function Pager({ shown, total, what, pageInfo, at, after }: PagerProps) {
  const all = after === null && !pageInfo.hasNextPage;
  const count = all || total === null ? shown : total;
  const noun = count === 1 ? what.replace(/s$/, "") : what;
  return (
    <nav className="pager" aria-label={`Pages of ${what}`}>
      <span>
        {all || total === null
          ? `${formatWhole(shown)} ${noun}`
          : `${formatWhole(shown)} of ${formatWhole(total)} ${noun}`}
      </span>
      <span className="actions">
        {after !== null && (
          <Link to={at(null)} className="button">
            First page
          </Link>
        )}
        {pageInfo.hasNextPage && pageInfo.endCursor !== null && (
          <Link to={at(pageInfo.endCursor)} className="button">
            Next page
          </Link>
        )}
      </span>
    </nav>
  );
}
