import type { MergePlanInput } from "../../../src/client/types.ts";
import { type Plan, type PlanData, planDocument } from "../documents.ts";
import { versionRoute } from "../router.ts";
import { formatBytes, formatWhole, shortDigest } from "../ui/format.ts";
import { Link } from "../ui/link.tsx";
import { Failure, Findings, Notice, UserErrors } from "../ui/notice.tsx";
import { Loading } from "../ui/page.tsx";
import { type Query, useQuery } from "../ui/query.ts";

/** What the merge would do, asked anew whenever the choice changes. */
export function usePlan(input: MergePlanInput | null): Query<PlanData> {
  return useQuery(planDocument, input && { input });
}

export function PlanView({ query }: { readonly query: Query<PlanData> }) {
  const { data, error, reload } = query;
  if (error) return <Failure error={error} retry={reload} />;
  if (!data) return <Loading what="the plan" />;
  const { plan, userErrors } = data.mergePlan;
  return (
    <>
      <UserErrors title="There is no plan for this" errors={userErrors} />
      {plan && plan.refusals.length > 0 && (
        <Notice tone="bad" title={refusedTitle(plan.refusals.length)}>
          <Findings findings={plan.refusals} />
        </Notice>
      )}
      {plan?.cachedVersion && (
        <Notice tone="good" title="This merge was made before">
          <p>
            <Link to={versionRoute(plan.cachedVersion.ref)}>{plan.cachedVersion.ref}</Link> holds exactly
            these bytes. Starting it checks that its files are unchanged and answers with it, whatever name is
            asked for.
          </p>
        </Notice>
      )}
      {plan?.runnable && <PlanFacts plan={plan} />}
      {plan && plan.warnings.length > 0 && (
        <Notice
          tone="warn"
          title={plan.warnings.length === 1 ? "1 warning" : `${plan.warnings.length} warnings`}
        >
          <Findings findings={plan.warnings} />
        </Notice>
      )}
    </>
  );
}

const refusedTitle = (count: number) => (count === 1 ? "Refused" : `Refused, for ${count} reasons`);

function PlanFacts({ plan }: { readonly plan: Plan }) {
  const [sample] = plan.touched?.nodes.filter((node) => node !== null) ?? [];
  const { from, differences } = plan.tokenizer;
  return (
    <section className="card stack">
      <h2>Plan</h2>
      <dl className="facts">
        <dt>Tensors</dt>
        <dd>
          {formatWhole(plan.touchedCount)} of {formatWhole(plan.tensorCount)} change, the rest is copied
        </dd>
        {plan.leftOut.length > 0 && (
          <>
            <dt>Left out</dt>
            <dd>
              {formatWhole(plan.leftOut.length)} adapted modules stay as in the base{" "}
              <span className="muted">
                (<code>{plan.leftOut[0]}</code>
                {plan.leftOut.length > 1 && ", …"})
              </span>
            </dd>
          </>
        )}
        {sample && (
          <>
            <dt>Update</dt>
            <dd>
              {sample.change}
              {sample.rank !== null && `, rank ${sample.rank}`}
              {sample.scale !== null && `, scale ${Number(sample.scale.toPrecision(4))}`}{" "}
              <span className="muted">
                (of <code>{sample.tensor}</code>)
              </span>
            </dd>
          </>
        )}
        <dt>Reads</dt>
        <dd title={`${formatWhole(plan.bytesToRead)} bytes`}>{formatBytes(plan.bytesToRead)}</dd>
        <dt>Writes</dt>
        <dd title={`${formatWhole(plan.bytesToWrite)} bytes`}>
          {formatBytes(plan.bytesToWrite)}
          {plan.outputs.length > 1 && ` in ${formatWhole(plan.outputs.length)} weight files`}
        </dd>
        <dt>Tokenizer</dt>
        <dd>
          the {from.toLowerCase()}'s
          {differences.length > 0 && ` (differing: ${differences.join(", ")})`}
        </dd>
        {plan.recipe && (
          <>
            <dt>Recipe</dt>
            <dd>
              <code title={plan.recipe.digest}>{shortDigest(plan.recipe.digest)}</code>
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}
