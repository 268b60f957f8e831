import { type FormEvent, useRef, useState } from "react";
import { ask, newKey } from "../api.ts";
import { modelImportDocument, modelsDocument, type Refusal } from "../documents.ts";
import { navigate } from "../router.ts";
import { SelectField, TextField } from "../ui/field.tsx";
import { Failure, UserErrors } from "../ui/notice.tsx";
import { Page } from "../ui/page.tsx";
import { useQuery } from "../ui/query.ts";

const VISIBILITIES = [
  { value: "PRIVATE", text: "Private: members only" },
  { value: "PUBLIC", text: "Public: everybody" },
];

type Form = { model: string; path: string; base: string; visibility: "PRIVATE" | "PUBLIC" };

export function ImportPage() {
  const [form, setForm] = useState<Form>({ model: "", path: "", base: "", visibility: "PRIVATE" });
  const bases = useQuery(modelsDocument, { kind: "BASE", after: null, first: 100 });
  const { busy, errors, failure, run } = useImport();
  const set = (change: Partial<Form>) => setForm((before) => ({ ...before, ...change }));
  const about = (part: string) => errors.find((error) => error.field?.includes(part))?.message ?? null;
  const rest = errors.filter(
    (error) => !["model", "source", "base"].some((part) => error.field?.includes(part)),
  );
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void run(form);
  };
  return (
    <Page
      title="Import a model"
      lead="Registers a folder that the server can read. The files stay where they are; every tensor is read once, for its digest. Whether it is a base or an adapter is read from the files."
      narrow
    >
      <form className="card" onSubmit={submit} noValidate>
        <TextField
          label="Name"
          value={form.model}
          onChange={(model) => set({ model })}
          placeholder="owner/name"
          hint="A name that exists gets a new version."
          problem={about("model")}
        />
        <TextField
          label="Folder on the server"
          value={form.path}
          onChange={(path) => set({ path })}
          placeholder="/models/llama-3-8b"
          hint={
            <>
              An absolute path below one of the roots in <code>GRAFTWORK_IMPORT_ROOTS</code>: by default the
              server's working directory and the Hugging Face cache.
            </>
          }
          problem={about("source")}
        />
        <div className="pair">
          <SelectField
            label="Base (for an adapter)"
            value={form.base}
            onChange={(base) => set({ base })}
            options={(bases.data?.models?.nodes ?? []).flatMap((row) =>
              row?.latestVersion ? [{ value: row.latestVersion.ref, text: row.latestVersion.ref }] : [],
            )}
            empty="None, or not known"
            hint="Recorded in the lineage: trained on."
            problem={about("base")}
          />
          <SelectField
            label="Who may see it"
            value={form.visibility}
            onChange={(value) => set({ visibility: value === "PUBLIC" ? "PUBLIC" : "PRIVATE" })}
            options={VISIBILITIES}
          />
        </div>
        <UserErrors title="It was not imported" errors={rest} />
        {failure ? <Failure error={failure} /> : null}
        <div className="actions">
          <button type="submit" className="primary" disabled={busy}>
            {busy ? "Starting…" : "Import"}
          </button>
        </div>
      </form>
    </Page>
  );
}

const required = (field: string, message: string): Refusal => ({
  code: "REQUIRED",
  field: [field],
  message,
});

function useImport() {
  const [busy, setBusy] = useState(false);
  const [errors, setErrors] = useState<readonly Refusal[]>([]);
  const [failure, setFailure] = useState<unknown>(null);
  const intent = useRef({ of: "", key: "" });
  const run = async (form: Form) => {
    const { model, path, base, visibility } = form;
    const missing: Refusal[] = [];
    if (model.trim() === "") missing.push(required("model", "Name it: owner/name."));
    if (path.trim() === "") missing.push(required("source", "Say which folder."));
    setErrors(missing);
    setFailure(null);
    if (missing.length > 0) return;
    const of = JSON.stringify(form);
    // One intent has one key, so that sending it twice (a lost answer) starts one import.
    if (intent.current.of !== of) intent.current = { of, key: newKey() };
    setBusy(true);
    try {
      const { modelImport } = await ask(modelImportDocument, {
        input: {
          source: { local: path.trim() },
          model: model.trim(),
          ...(base === "" ? {} : { base: { ref: base } }),
          visibility,
          idempotencyKey: intent.current.key,
        },
      });
      setErrors(modelImport.userErrors);
      if (modelImport.userErrors.length > 0) intent.current = { of: "", key: "" };
      if (modelImport.job) navigate({ page: "job", id: modelImport.job.id });
    } catch (error) {
      setFailure(error);
    }
    setBusy(false);
  };
  return { busy, errors, failure, run };
}
