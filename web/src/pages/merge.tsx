import { type FormEvent, useMemo, useRef, useState } from "react";
import type { MergePlanInput, ModelKind } from "../../../src/client/types.ts";
import { readLayers } from "../../../src/core/selection-text.ts";
import { ask, newKey } from "../api.ts";
import { mergeStartDocument, modelsDocument, type Refusal } from "../documents.ts";
import { gatesDocument } from "../evaluation-documents.ts";
import { mergeOptions, navigate, type Route } from "../router.ts";
import { type Option, SelectField, TextField } from "../ui/field.tsx";
import { formatCount, sentence, words } from "../ui/format.ts";
import { Link } from "../ui/link.tsx";
import { Failure, Notice, UserErrors } from "../ui/notice.tsx";
import { Page } from "../ui/page.tsx";
import { useQuery, useSettled } from "../ui/query.ts";
import { gateHint, gateOptions } from "./merge-gate.ts";
import { suggestOutput } from "./merge-name.ts";
import { choicesOf, MergeOptions, type MergeOptionValues } from "./merge-options.tsx";
import { PlanView, usePlan } from "./merge-plan.tsx";

type MergeRoute = Extract<Route, { page: "merge" }>;

/** The form's state is its address: it survives a reload and can be sent to somebody else. */
export function MergePage({ route }: { readonly route: MergeRoute }) {
  const bases = useOptions(["BASE", "MERGED"], route.base);
  const adapters = useOptions(["ADAPTER"], route.adapter);
  const [edited, setEdited] = useState(route.output !== "");
  const output = edited ? route.output : suggestOutput(route.base, route.adapter);
  const set = (change: Partial<MergeRoute>) => navigate({ ...route, ...change }, { replace: true });
  const options = JSON.stringify(mergeOptions(route));
  const input = useMemo(
    () => planInput(route.base, route.adapter, JSON.parse(options)),
    [route.base, route.adapter, options],
  );
  const settled = useSettled(input, 150);
  const plan = usePlan(settled);
  const planning = plan.loading || settled !== input;
  const gate = route.gate ?? "";
  const gates = useQuery(gatesDocument, {}).data?.gates?.nodes ?? [];
  const start = useStart(input, output, gate);
  const runnable = plan.data?.mergePlan.plan?.runnable === true && !planning;
  const ready = input !== null && output.trim() !== "" && runnable && !start.busy;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (ready) void start.run();
  };
  return (
    <Page
      title="Merge an adapter into a base"
      lead="The base's weights plus the adapter's update, rounded into its storage type. The plan comes from the files' headers alone: no weights are read and nothing is written before you start."
    >
      <div className="columns">
        <form className="card" onSubmit={submit} noValidate>
          <SelectField
            label="Base"
            value={route.base}
            onChange={(base) => set({ base })}
            options={bases.options}
            empty="Choose a base model"
            hint={bases.options.length === 0 && !bases.loading ? <NoneYet what="base model" /> : undefined}
          />
          <SelectField
            label="Adapter"
            value={route.adapter}
            onChange={(adapter) => set({ adapter })}
            options={adapters.options}
            empty="Choose an adapter"
            hint={adapters.options.length === 0 && !adapters.loading ? <NoneYet what="adapter" /> : undefined}
          />
          <TextField
            label="Name of the result"
            value={output}
            onChange={(value) => {
              setEdited(true);
              set({ output: value });
            }}
            placeholder="owner/name"
            hint="owner/name. A name that exists gets a new version."
            problem={start.errors.find(isAboutOutput)?.message ?? null}
          />
          <SelectField
            label="Evaluate the result"
            value={gate}
            onChange={(value) => set({ gate: value })}
            options={gateOptions(gates, gate)}
            empty="No evaluation"
            hint={gateHint(gates, gate)}
            problem={start.errors.find(isAboutGate)?.message ?? null}
          />
          <MergeOptions values={route} onChange={(change) => set(change)} />
          {bases.error || adapters.error ? <Failure error={bases.error ?? adapters.error} /> : null}
          <UserErrors
            title="The merge was not started"
            errors={start.errors.filter((error) => !isAboutOutput(error) && !isAboutGate(error))}
          />
          {start.failure ? <Failure error={start.failure} /> : null}
          <div className="actions">
            <button type="submit" className="primary" aria-disabled={!ready}>
              {start.busy ? "Starting…" : "Start merge"}
            </button>
            <span className="muted small-text">
              {whyNot({ route, input, output, runnable, loading: planning })}
            </span>
          </div>
        </form>
        <section className="stack" aria-label="Plan" aria-live="polite" aria-busy={planning}>
          {input === null ? (
            <Notice tone="info" title="Plan">
              <p>
                {route.base && route.adapter
                  ? "Correct the option that is marked to see what the merge would do."
                  : "Choose a base and an adapter to see what the merge would do."}
              </p>
            </Notice>
          ) : (
            <PlanView query={plan} />
          )}
        </section>
      </div>
    </Page>
  );
}

function NoneYet({ what }: { readonly what: string }) {
  return (
    <>
      There is no {what} yet. <Link to={{ page: "import" }}>Import one</Link>.
    </>
  );
}

const isAboutOutput = (error: Refusal) => error.field?.includes("output") === true;
const isAboutGate = (error: Refusal) => error.field?.includes("gate") === true;

function planInput(base: string, adapter: string, options: MergeOptionValues): MergePlanInput | null {
  if (base === "" || adapter === "") return null;
  if (options.layers && readLayers(options.layers) === null) return null;
  const choices = choicesOf(options);
  return {
    base: { version: { ref: base } },
    sources: [{ version: { ref: adapter } }],
    ...(choices && { choices }),
  };
}

interface Readiness {
  readonly route: MergeRoute;
  readonly input: MergePlanInput | null;
  readonly output: string;
  readonly runnable: boolean;
  readonly loading: boolean;
}

/** What still keeps the merge from being started. */
function whyNot({ route, input, output, runnable, loading }: Readiness): string {
  if (route.base === "" || route.adapter === "") return "Choose a base and an adapter.";
  if (input === null) return "An option is not right: see above.";
  if (loading) return "Planning…";
  if (!runnable) return "The plan refuses this merge: see its reasons.";
  if (output.trim() === "") return "Name the result.";
  return "";
}

/** The newest version of every model of these kinds, and the chosen one in any case. */
function useOptions(kinds: readonly [ModelKind, ModelKind?], chosen: string) {
  const first = useQuery(modelsDocument, { kind: kinds[0], after: null, first: 100 });
  const second = useQuery(modelsDocument, kinds[1] ? { kind: kinds[1], after: null, first: 100 } : null);
  const rows = [...(first.data?.models?.nodes ?? []), ...(second.data?.models?.nodes ?? [])];
  const options: Option[] = rows.flatMap((row) =>
    row?.latestVersion
      ? [
          {
            value: row.latestVersion.ref,
            text: `${row.latestVersion.ref} (${sentence(words(row.kind))}, ${formatCount(row.latestVersion.parameters)} ${row.latestVersion.dtype})`,
          },
        ]
      : [],
  );
  // A link may name an older version than the newest, or one beyond the first hundred.
  if (chosen !== "" && !options.some((option) => option.value === chosen)) {
    options.unshift({ value: chosen, text: chosen });
  }
  return { options, loading: first.loading || second.loading, error: first.error ?? second.error };
}

/** Starts the merge. One intent has one key, so that sending it twice (a lost answer) starts one merge. */
function useStart(input: MergePlanInput | null, output: string, gate: string) {
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<readonly Refusal[]>([]);
  const [failure, setFailure] = useState<unknown>(null);
  const intent = useRef({ of: "", key: "" });
  const run = async () => {
    if (input === null) return;
    const of = JSON.stringify([input, output, gate]);
    if (intent.current.of !== of) intent.current = { of, key: newKey() };
    setBusy(true);
    setErrors([]);
    setFailure(null);
    try {
      const { mergeStart } = await ask(mergeStartDocument, {
        input: {
          ...input,
          output: { model: output.trim() },
          ...(gate !== "" && { gate }),
          idempotencyKey: intent.current.key,
        },
      });
      setErrors(mergeStart.userErrors);
      if (mergeStart.userErrors.length > 0) intent.current = { of: "", key: "" };
      if (mergeStart.job) navigate({ page: "job", id: mergeStart.job.id });
    } catch (error) {
      setFailure(error);
    }
    setBusy(false);
  };
  return { busy, errors, failure, run };
}
