import { useEffect } from "react";
import { HOME } from "../router.ts";
import { useSession } from "../session.tsx";
import { Link } from "../ui/link.tsx";
import { Page } from "../ui/page.tsx";

/** For what does not exist, and for what the viewer may not see: the two look the same on purpose. */
export function MissingPage({ what }: { readonly what: string }) {
  const { viewer, refresh } = useSession();
  // What was there a moment ago and is not now: perhaps the session has ended.
  useEffect(refresh, [refresh]);
  return (
    <Page title="Nothing here" narrow>
      <p>
        {what} {viewer ? "" : "You are not signed in: only public models are visible."}
      </p>
      <div className="actions">
        {!viewer && (
          <Link
            to={{ page: "signin", next: window.location.pathname + window.location.search }}
            className="button primary"
          >
            Sign in
          </Link>
        )}
        <Link to={HOME} className={viewer ? "button primary" : "button"}>
          All models
        </Link>
      </div>
    </Page>
  );
}
