import { createContext, type ReactNode, useCallback, useContext, useEffect, useState } from "react";
import { viewerDocument } from "./documents.ts";
import { useAddress } from "./router.ts";
import { type Known, learn } from "./sign-in.ts";
import { useQuery } from "./ui/query.ts";

/** Nobody is signed in also while that is not known yet. */
export interface Session extends Known {
  readonly loading: boolean;
  /** Only while nothing is known: a server that goes away later is the pages' business. */
  readonly error: unknown;
  /** Asks again who is signed in: after signing in, and when something hints that nobody is any longer. */
  readonly refresh: () => void;
  /** After signing out, which is no session that ended by itself. */
  readonly forget: () => void;
}

const SessionContext = createContext<Session | null>(null);

const NOTHING = {};

export function SessionProvider({ children }: { readonly children: ReactNode }) {
  const { data, loading, error, reload } = useQuery(viewerDocument, NOTHING);
  const [known, setKnown] = useState<Known | null>(null);
  const [answer, setAnswer] = useState(data);
  // While rendering, not in an effect: no page may be drawn for an instant with the viewer of before.
  if (data !== null && data !== answer) {
    setAnswer(data);
    setKnown(learn(known, data.viewer));
  }
  const forget = useCallback(() => {
    setKnown({ viewer: null, ended: false });
    reload();
  }, [reload]);
  useAskAgain(reload);
  const { viewer, ended } = known ?? { viewer: null, ended: false };
  const unknown = known === null;
  return (
    <SessionContext
      value={{
        viewer,
        ended,
        loading: loading && unknown,
        error: unknown ? error : null,
        refresh: reload,
        forget,
      }}
    >
      {children}
    </SessionContext>
  );
}

/** An ended session shows only as things that are not there; so who one is is asked with every page and on return. */
function useAskAgain(refresh: () => void): void {
  const address = useAddress();
  const [asked, setAsked] = useState(address);
  useEffect(() => {
    if (address === asked) return;
    setAsked(address);
    refresh();
  }, [address, asked, refresh]);
  useEffect(() => {
    window.addEventListener("focus", refresh);
    return () => window.removeEventListener("focus", refresh);
  }, [refresh]);
}

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("useSession needs a SessionProvider above it");
  return session;
}
