import { type VersionFacts, versionDocument } from "../documents.ts";
import { LineagePanel } from "../lineage/panel.tsx";
import { type Route, VERSION_TABS, type VersionTab } from "../router.ts";
import { KindBadge, VerdictChip, VerifiedChip } from "../ui/badges.tsx";
import { CopyButton } from "../ui/copy.tsx";
import { formatBytes, formatCount, formatWhole, sentence, shortDigest } from "../ui/format.ts";
import { Link } from "../ui/link.tsx";
import { Failure } from "../ui/notice.tsx";
import { Loading, Page } from "../ui/page.tsx";
import { useQuery } from "../ui/query.ts";
import { Time } from "../ui/time.tsx";
import { describeVerdict, latestVerdict, VERDICT_TONES } from "./evaluations.ts";
import { MissingPage } from "./missing.tsx";
import { readVerifyReport } from "./verification.ts";
import { OverviewPanel } from "./version-overview.tsx";
import { RecipePanel } from "./version-recipe.tsx";
import { TensorsPanel } from "./version-tensors.tsx";

type VersionRoute = Extract<Route, { page: "version" }>;

export function VersionPage({ route }: { readonly route: VersionRoute }) {
  const { data, error, loading, reload } = useQuery(versionDocument, { ref: route.ref });
  if (error) {
    return (
      <Page title={route.ref}>
        <Failure error={error} retry={reload} />
      </Page>
    );
  }
  // A reload after a verification must not take the page away.
  if (!data || (loading && data.version?.ref !== route.ref)) {
    return (
      <Page title={route.ref}>
        <Loading what="the version" />
      </Page>
    );
  }
  if (!data.version) return <MissingPage what={`There is no version ${route.ref} that you may see.`} />;
  return <Version version={data.version} route={route} reload={reload} />;
}

interface VersionProps {
  readonly version: VersionFacts;
  readonly route: VersionRoute;
  readonly reload: () => void;
}

function Version({ version, route, reload }: VersionProps) {
  const tabs = VERSION_TABS.filter((tab) => tab !== "recipe" || version.recipe !== null);
  const tab = tabs.includes(route.tab) ? route.tab : "overview";
  const at = (to: VersionTab): Route => ({ ...route, tab: to, after: null });
  return (
    <Page
      title={version.ref}
      above={<Badges version={version} />}
      actions={<MergeButton version={version} />}
    >
      <Strip version={version} />
      <nav className="tabs" aria-label={`About ${version.ref}`}>
        {tabs.map((item) => (
          <Link key={item} to={at(item)} current={item === tab}>
            {sentence(item)}
          </Link>
        ))}
      </nav>
      {tab === "overview" && <OverviewPanel version={version} reload={reload} />}
      {tab === "lineage" && <LineagePanel versionRef={version.ref} />}
      {tab === "tensors" && <TensorsPanel route={route} />}
      {tab === "recipe" && version.recipe && <RecipePanel version={version} recipe={version.recipe} />}
    </Page>
  );
}

function Badges({ version }: { readonly version: VersionFacts }) {
  const verified = readVerifyReport(version.merge?.verification?.report);
  const judged = latestVerdict(version.evaluations?.nodes ?? [], version);
  return (
    <div className="actions">
      <KindBadge kind={version.kind} />
      {version.merge?.verdict && <VerdictChip verdict={version.merge.verdict} />}
      {verified && <VerifiedChip identical={verified.identical} />}
      {judged?.verdict && (
        <span className={`badge ${VERDICT_TONES[judged.verdict]}`} title={describeVerdict(judged)}>
          Evaluation {judged.verdict}
        </span>
      )}
      {version.model?.visibility === "PUBLIC" && <span className="badge">Public</span>}
      {version.hasCode && (
        <span className="badge warn" title="Carries Python code: copied, never run">
          Carries code
        </span>
      )}
    </div>
  );
}

/** A merge needs a full checkpoint and an adapter; from either, the form starts with it filled in. */
function MergeButton({ version }: { readonly version: VersionFacts }) {
  if (version.kind === "QUANTIZED") return null;
  const trainedOn = version.parents?.edges.find((edge) => edge.relation === "TRAINED_ON")?.node?.ref ?? "";
  const to: Route =
    version.kind === "ADAPTER"
      ? { page: "merge", base: trainedOn, adapter: version.ref, output: "" }
      : { page: "merge", base: version.ref, adapter: "", output: "" };
  return (
    <Link to={to} className="button primary">
      Merge
    </Link>
  );
}

function Strip({ version }: { readonly version: VersionFacts }) {
  return (
    <div className="strip">
      <span>
        <code title={version.digest}>{shortDigest(version.digest)}</code>
        <CopyButton text={version.digest} what="the version's digest" />
      </span>
      <span title={`${formatWhole(version.parameters)} parameters`}>
        {formatCount(version.parameters)} parameters
      </span>
      <span title={`${formatWhole(version.sizeBytes)} bytes`}>{formatBytes(version.sizeBytes)}</span>
      <code>{version.dtype}</code>
      {version.architecture && <span>{version.architecture}</span>}
      <Time iso={version.createdAt} />
    </div>
  );
}
