import { type ModelRow, modelsDocument } from "../documents.ts";
import { formatRoute, KINDS, type Route, versionRoute } from "../router.ts";
import { useSession } from "../session.tsx";
import { KindBadge } from "../ui/badges.tsx";
import { CodeBlock } from "../ui/copy.tsx";
import { formatBytes, formatCount, sentence, words } from "../ui/format.ts";
import { Link } from "../ui/link.tsx";
import { Failure } from "../ui/notice.tsx";
import { Loading, Page } from "../ui/page.tsx";
import { Pager } from "../ui/pager.tsx";
import { useQuery } from "../ui/query.ts";
import { Scroll } from "../ui/scroll.tsx";
import { Time } from "../ui/time.tsx";

type ModelsRoute = Extract<Route, { page: "models" }>;

const PAGE_SIZE = 50;

export function ModelsPage({ route }: { readonly route: ModelsRoute }) {
  const { kind, after } = route;
  const { viewer } = useSession();
  const { data, error, loading, reload } = useQuery(modelsDocument, { kind, after, first: PAGE_SIZE });
  const rows = data?.models?.nodes.filter((row) => row !== null) ?? [];
  return (
    <Page
      title="Models"
      lead="Bases, the adapters trained on them, and what merging made of both."
      actions={
        viewer && (
          <Link to={{ page: "import" }} className="button primary">
            Import a model
          </Link>
        )
      }
    >
      <nav className="filters" aria-label="Kind of model">
        {[null, ...KINDS].map((option) => (
          <Link
            key={option ?? "ALL"}
            to={{ page: "models", kind: option, after: null }}
            current={option === kind}
          >
            {option === null ? "All kinds" : sentence(words(option))}
          </Link>
        ))}
      </nav>
      {error ? <Failure error={error} retry={reload} /> : null}
      {loading && !data && <Loading what="models" />}
      {data && rows.length === 0 && <NoModels route={route} signedIn={viewer !== null} />}
      {rows.length > 0 && (
        <div className="stack" aria-busy={loading}>
          <ModelTable rows={rows} />
          <Pager
            shown={rows.length}
            total={data!.models!.totalCount}
            what="models"
            pageInfo={data!.models!.pageInfo}
            after={after}
            at={(cursor) => ({ page: "models", kind, after: cursor })}
          />
        </div>
      )}
    </Page>
  );
}

function ModelTable({ rows }: { readonly rows: readonly ModelRow[] }) {
  return (
    <Scroll label="Models">
      <table>
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col">Kind</th>
            <th scope="col">Newest version</th>
            <th scope="col" className="number">
              Parameters
            </th>
            <th scope="col" className="number">
              Size
            </th>
            <th scope="col">Type</th>
            <th scope="col">Changed</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Row key={row.id} row={row} />
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function Row({ row }: { readonly row: ModelRow }) {
  const newest = row.latestVersion;
  return (
    <tr>
      <td className="name">
        {newest ? <Link to={versionRoute(newest.ref)}>{row.name}</Link> : row.name}{" "}
        {row.visibility === "PUBLIC" && <span className="badge">Public</span>}
      </td>
      <td>
        <KindBadge kind={row.kind} />
      </td>
      {newest ? (
        <>
          <td>@{newest.number}</td>
          <td className="number">{formatCount(newest.parameters)}</td>
          <td className="number">{formatBytes(newest.sizeBytes)}</td>
          <td>
            <code>{newest.dtype}</code>
          </td>
        </>
      ) : (
        <td colSpan={4} className="muted">
          none yet
        </td>
      )}
      <td>
        <Time iso={row.updatedAt} />
      </td>
    </tr>
  );
}

const curlImport = () => `curl ${window.location.origin}/graphql \\
  -H "authorization: Bearer $(cat .graftwork/admin-token)" \\
  -H 'content-type: application/json' \\
  -d '{"query": "mutation { modelImport(input: { source: { local: \\"/path/to/folder\\" }, model: \\"me/base\\", idempotencyKey: \\"first\\" }) { job { id } userErrors { code message } } }"}'`;

function NoModels({ route, signedIn }: { readonly route: ModelsRoute; readonly signedIn: boolean }) {
  if (!signedIn) {
    return (
      <section className="card empty">
        <h2>No public models</h2>
        <p>Models are private unless their owner says otherwise. Sign in to see yours.</p>
        <div className="actions">
          <Link to={{ page: "signin", next: formatRoute(route) }} className="button primary">
            Sign in
          </Link>
        </div>
      </section>
    );
  }
  if (route.kind !== null || route.after !== null) {
    return (
      <section className="card empty">
        <h2>Nothing of this kind</h2>
        <p>
          <Link to={{ page: "models", kind: null, after: null }}>Show all kinds</Link>
        </p>
      </section>
    );
  }
  return (
    <section className="card empty">
      <h2>No models yet</h2>
      <p>
        The demo brings a tiny base with adapters, merges one and shows where everything came from. It takes
        seconds on a CPU.
      </p>
      <CodeBlock title="Try the demo" text="npm run demo" />
      <p>
        Or <Link to={{ page: "import" }}>import a folder</Link> of your own that the server can read. The same
        as a request:
      </p>
      <CodeBlock title="Import through the API" text={curlImport()} />
    </section>
  );
}
