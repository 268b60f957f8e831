import { isJsonObject } from "../../../src/core/json.ts";
import type { VersionFacts } from "../documents.ts";
import { versionRoute } from "../router.ts";
import { CopyButton } from "../ui/copy.tsx";
import { formatBytes, formatDuration, formatWhole, words } from "../ui/format.ts";
import { Link } from "../ui/link.tsx";
import { Findings, Notice } from "../ui/notice.tsx";
import { Scroll } from "../ui/scroll.tsx";
import { Time } from "../ui/time.tsx";
import { describeAdapter } from "./adapter-facts.ts";
import { EvaluationsPanel } from "./version-evaluations.tsx";
import { ProofPanel } from "./version-proof.tsx";

interface OverviewProps {
  readonly version: VersionFacts;
  readonly reload: () => void;
}

export function OverviewPanel({ version, reload }: OverviewProps) {
  return (
    <>
      {version.warnings.length > 0 && (
        <Notice tone="warn" title="Odd about these files">
          <Findings findings={version.warnings} />
        </Notice>
      )}
      <div className="columns">
        <Facts version={version} />
        <div className="stack">
          <Origin version={version} />
          {version.merge && <ProofPanel version={version} merge={version.merge} reload={reload} />}
          <EvaluationsPanel version={version} />
          <Versions version={version} />
        </div>
      </div>
      <Files version={version} />
    </>
  );
}

function Digest({ digest, what }: { readonly digest: string; readonly what: string }) {
  return (
    <dd className="copied">
      <code>{digest}</code> <CopyButton text={digest} what={what} />
    </dd>
  );
}

function Facts({ version }: { readonly version: VersionFacts }) {
  const config = isJsonObject(version.adapterConfig) ? version.adapterConfig : {};
  return (
    <section className="card stack">
      <h2>Facts</h2>
      <dl className="facts">
        <dt>Digest</dt>
        <Digest digest={version.digest} what="the version's digest" />
        <dt>Weights</dt>
        <Digest digest={version.weightsDigest} what="the weights digest" />
        <dt>Parameters</dt>
        <dd>
          {formatWhole(version.parameters)} in {formatWhole(version.tensorCount)} tensors, mostly{" "}
          <code>{version.dtype}</code>
        </dd>
        <dt>Size</dt>
        <dd title={`${formatWhole(version.sizeBytes)} bytes`}>{formatBytes(version.sizeBytes)}</dd>
        {version.architecture && (
          <>
            <dt>Architecture</dt>
            <dd>
              {version.architecture} {version.modelType && <code>{version.modelType}</code>}
            </dd>
          </>
        )}
        {version.kind === "ADAPTER" && (
          <>
            <dt>Adapter</dt>
            <dd>{describeAdapter(config)}</dd>
          </>
        )}
        {version.location && (
          <>
            <dt>Folder</dt>
            <dd className="copied">
              <code>{version.location}</code> <CopyButton text={version.location} what="the folder" />
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}

function Origin({ version }: { readonly version: VersionFacts }) {
  const { merge } = version;
  const parents = version.parents?.edges ?? [];
  const took =
    merge?.startedAt && merge.finishedAt
      ? (Date.parse(merge.finishedAt) - Date.parse(merge.startedAt)) / 1000
      : null;
  return (
    <section className="card stack">
      <h2>Where it came from</h2>
      <p>
        {version.origin === "MERGED" ? "Merged " : "Imported "}
        <Time iso={version.createdAt} />
        {took !== null && ` in ${formatDuration(took)}`}
        {merge &&
          ` on ${merge.device}${merge.threads ? ` with ${formatWhole(merge.threads)} ${merge.threads === 1 ? "thread" : "threads"}` : ""}`}
        .
      </p>
      {parents.length > 0 ? (
        <ul className="findings">
          {parents.map((edge) => (
            <li key={`${edge.role} ${edge.node?.ref}`}>
              {edge.relation === "TRAINED_ON" ? "Trained on " : `Merged from the ${words(edge.role)} `}
              {edge.node ? (
                <Link to={versionRoute(edge.node.ref)}>{edge.node.ref}</Link>
              ) : (
                <span className="muted">a version that you may not see</span>
              )}
              {edge.weight !== null && `, weight ${edge.weight}`}
            </li>
          ))}
        </ul>
      ) : (
        <p className="muted">It has no recorded parents.</p>
      )}
      <p>
        <Link to={versionRoute(version.ref, "lineage")}>Lineage graph</Link>
      </p>
    </section>
  );
}

function Versions({ version }: { readonly version: VersionFacts }) {
  const list = version.model?.versions;
  const rows = list?.nodes.filter((row) => row !== null) ?? [];
  if (rows.length < 2) return null;
  return (
    <section className="card stack">
      <h2>Versions of {version.model!.name}</h2>
      <ul className="findings">
        {rows.map((row) => (
          <li key={row.ref}>
            <Link to={versionRoute(row.ref)} current={row.ref === version.ref}>
              @{row.number}
            </Link>{" "}
            <span className="muted">
              <Time iso={row.createdAt} />
              {row.ref === version.ref && ", this one"}
            </span>
          </li>
        ))}
      </ul>
      {list?.totalCount && list.totalCount > rows.length ? (
        <p className="muted">
          The newest {rows.length} of {formatWhole(list.totalCount)}.
        </p>
      ) : null}
    </section>
  );
}

function Files({ version }: { readonly version: VersionFacts }) {
  const rows = version.files?.nodes.filter((row) => row !== null) ?? [];
  const total = version.files?.totalCount ?? rows.length;
  if (rows.length === 0) return null;
  return (
    <section className="stack">
      <h2>Files</h2>
      <Scroll label="Files">
        <table>
          <thead>
            <tr>
              <th scope="col">Path</th>
              <th scope="col">Role</th>
              <th scope="col" className="number">
                Size
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((file) => (
              <tr key={file.path}>
                <td title={file.digest ?? undefined}>
                  <code>{file.path}</code>
                </td>
                <td>{words(file.role)}</td>
                <td className="number" title={`${formatWhole(file.size)} bytes`}>
                  {formatBytes(file.size)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {total > rows.length && (
        <p className="muted">
          The first {rows.length} of {formatWhole(total)} files; the API has the rest.
        </p>
      )}
    </section>
  );
}
