import { useState } from "react";
import { ImportPage } from "./pages/import.tsx";
import { JobPage } from "./pages/job.tsx";
import { MergePage } from "./pages/merge.tsx";
import { MissingPage } from "./pages/missing.tsx";
import { ModelsPage } from "./pages/models.tsx";
import { SignInPage } from "./pages/signin.tsx";
import { VersionPage } from "./pages/version.tsx";
import { formatRoute, HOME, navigate, parseRoute, type Route, useAddress } from "./router.ts";
import { useSession } from "./session.tsx";
import { signOut } from "./sign-in.ts";
import { Boundary } from "./ui/boundary.tsx";
import { Link } from "./ui/link.tsx";
import { Failure } from "./ui/notice.tsx";
import { Loading, Page } from "./ui/page.tsx";

export function App() {
  const route = parseRoute(useAddress());
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <Bar route={route} />
      <Boundary key={route.page}>
        <Body route={route} />
      </Boundary>
    </>
  );
}

function Body({ route }: { readonly route: Route }) {
  const { viewer, ended, loading, error, refresh } = useSession();
  if (loading) {
    return (
      <Page title="Graftwork">
        <Loading what="the console" />
      </Page>
    );
  }
  if (error) {
    return (
      <Page title="The console cannot work right now" narrow>
        <Failure error={error} retry={refresh} />
      </Page>
    );
  }
  if (ended && route.page !== "signin") return <SignInPage next={formatRoute(route)} />;
  switch (route.page) {
    case "models":
      return <ModelsPage route={route} />;
    case "version":
      return <VersionPage route={route} />;
    case "job":
      return <JobPage key={route.id} id={route.id} />;
    case "signin":
      return <SignInPage next={route.next} />;
    case "missing":
      return <MissingPage what={`There is no page at ${route.path}.`} />;
    // These two change things, which nobody may without an account.
    case "merge":
      return viewer ? <MergePage route={route} /> : <SignInPage next={formatRoute(route)} />;
    case "import":
      return viewer ? <ImportPage /> : <SignInPage next={formatRoute(route)} />;
  }
}

const MERGE: Route = { page: "merge", base: "", adapter: "", output: "" };

function Bar({ route }: { readonly route: Route }) {
  const { viewer } = useSession();
  return (
    <header className="bar">
      <div className="bar-in">
        <Link to={HOME} className="brand">
          <img src="/icon.svg" alt="" /> Graftwork
        </Link>
        <nav aria-label="Main">
          <Link to={HOME} current={route.page === "models"}>
            Models
          </Link>
          {viewer && (
            <>
              <Link to={MERGE} current={route.page === "merge"}>
                Merge
              </Link>
              <Link to={{ page: "import" }} current={route.page === "import"}>
                Import
              </Link>
            </>
          )}
        </nav>
        <Who route={route} />
      </div>
    </header>
  );
}

function Who({ route }: { readonly route: Route }) {
  const { viewer, ended, loading, forget } = useSession();
  const [failed, setFailed] = useState(false);
  const leave = async () => {
    try {
      await signOut();
      setFailed(false);
      forget();
      navigate({ page: "signin", next: null });
    } catch {
      setFailed(true);
    }
  };
  if (viewer) {
    return (
      <div className="who">
        <span>
          Signed in as <strong>{viewer.name}</strong>
        </span>
        <button type="button" className="small" onClick={leave}>
          Sign out
        </button>
        {failed && <span role="alert">Signing out failed: try again.</span>}
      </div>
    );
  }
  if (loading || ended || route.page === "signin") return null;
  return (
    <div className="who">
      <Link to={{ page: "signin", next: formatRoute(route) }} className="button small">
        Sign in
      </Link>
    </div>
  );
}
