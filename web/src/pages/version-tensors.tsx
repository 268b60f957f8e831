import { type TensorRow, tensorsDocument } from "../documents.ts";
import type { Route } from "../router.ts";
import { formatBytes, formatWhole, shortDigest } from "../ui/format.ts";
import { Failure } from "../ui/notice.tsx";
import { Loading } from "../ui/page.tsx";
import { Pager } from "../ui/pager.tsx";
import { useQuery } from "../ui/query.ts";
import { Scroll } from "../ui/scroll.tsx";

type VersionRoute = Extract<Route, { page: "version" }>;

const PAGE_SIZE = 50;

export function TensorsPanel({ route }: { readonly route: VersionRoute }) {
  const { ref, after } = route;
  const { data, error, loading, reload } = useQuery(tensorsDocument, { ref, after, first: PAGE_SIZE });
  if (error) return <Failure error={error} retry={reload} />;
  const tensors = data?.version?.tensors;
  if (!tensors) return loading ? <Loading what="tensors" /> : <p>No tensors are recorded.</p>;
  const rows = tensors.nodes.filter((row) => row !== null);
  return (
    <div className="stack" aria-busy={loading}>
      <Scroll label="Tensors">
        <table>
          <thead>
            <tr>
              <th scope="col">Tensor</th>
              <th scope="col">Type</th>
              <th scope="col">Shape</th>
              <th scope="col" className="number">
                Size
              </th>
              <th scope="col" className="number">
                Largest
              </th>
              <th scope="col" className="number">
                RMS
              </th>
              <th scope="col">Digest</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <Row key={row.name} row={row} />
            ))}
          </tbody>
        </table>
      </Scroll>
      <Pager
        shown={rows.length}
        total={tensors.totalCount}
        what="tensors"
        pageInfo={tensors.pageInfo}
        after={after}
        at={(cursor) => ({ ...route, after: cursor })}
      />
    </div>
  );
}

function Row({ row }: { readonly row: TensorRow }) {
  return (
    <tr>
      <td title={`in ${row.file}`}>
        <code>{row.name}</code>{" "}
        {row.nonFinite ? (
          <span className="badge bad">{formatWhole(row.nonFinite)} NaN or infinite</span>
        ) : null}
      </td>
      <td>
        <code>{row.dtype}</code>
      </td>
      <td>{row.shape.length === 0 ? "scalar" : row.shape.join(" × ")}</td>
      <td className="number" title={`${formatWhole(row.sizeBytes)} bytes`}>
        {formatBytes(row.sizeBytes)}
      </td>
      <td className="number">{row.absmax === null ? "–" : row.absmax.toPrecision(3)}</td>
      <td className="number">{row.rms === null ? "–" : row.rms.toPrecision(3)}</td>
      <td>{row.digest ? <code title={row.digest}>{shortDigest(row.digest)}</code> : "–"}</td>
    </tr>
  );
}
