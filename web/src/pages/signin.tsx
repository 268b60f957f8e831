import { type FormEvent, useState } from "react";
import { describeProblem } from "../api.ts";
import { formatRoute, HOME, navigate } from "../router.ts";
import { useSession } from "../session.tsx";
import { signIn } from "../sign-in.ts";
import { CodeBlock } from "../ui/copy.tsx";
import { TextField } from "../ui/field.tsx";
import { Link } from "../ui/link.tsx";
import { Notice } from "../ui/notice.tsx";
import { focusNextPage, Page } from "../ui/page.tsx";

export function SignInPage({ next }: { readonly next: string | null }) {
  const { viewer, ended, refresh } = useSession();
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const trimmed = token.trim();
    if (trimmed === "") return setProblem("Paste a token first.");
    setBusy(true);
    setProblem(null);
    try {
      await signIn(trimmed);
      setToken("");
      focusNextPage();
      refresh();
      navigate(next ?? formatRoute(HOME), { replace: true });
    } catch (error) {
      const { title, detail } = describeProblem(error);
      setProblem(`${title}. ${detail}`);
    }
    setBusy(false);
  };

  if (viewer) {
    return (
      <Page title="You are signed in" narrow>
        <p>
          As <strong>{viewer.name}</strong>. <Link to={HOME}>Go to the models.</Link>
        </p>
      </Page>
    );
  }
  return (
    <Page
      title="Sign in"
      lead="Graftwork knows you by an API token. The browser keeps a session cookie instead of the token."
      narrow
    >
      {ended && (
        <Notice tone="warn" title="Your session has ended">
          <p>Sign in again to go on where you were.</p>
        </Notice>
      )}
      <form className="card" onSubmit={submit} noValidate>
        <TextField
          label="API token"
          type="password"
          value={token}
          onChange={setToken}
          problem={problem}
          hint="Paste the whole line."
        />
        <div className="actions">
          <button type="submit" className="primary" disabled={busy}>
            {busy ? "Signing in…" : "Sign in"}
          </button>
        </div>
      </form>
      <section className="stack">
        <h2>Where is my token?</h2>
        <p>
          The server printed the admin token when it first started, and keeps it in a file that only its own
          user can read:
        </p>
        <CodeBlock
          title="On the server"
          text="cat .graftwork/admin-token    # or $GRAFTWORK_HOME/admin-token"
        />
        <p className="muted">
          Lost it? <code>npm start -- --new-admin-token</code> makes a new one and ends the sessions of the
          old one.
        </p>
      </section>
    </Page>
  );
}
