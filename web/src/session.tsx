import { createContext, type ReactNode, useContext } from "react";
import { type Viewer, viewerDocument } from "./documents.ts";
import { useQuery } from "./ui/query.ts";

export interface Session {
  /** Null when nobody is signed in, and while that is not known yet. */
  readonly viewer: Viewer | null;
  readonly loading: boolean;
  readonly error: unknown;
  /** Asks again who is signed in: after signing in or out. */
  readonly refresh: () => void;
}

const SessionContext = createContext<Session | null>(null);

const NOTHING = {};

export function SessionProvider({ children }: { readonly children: ReactNode }) {
  const { data, loading, error, reload } = useQuery(viewerDocument, NOTHING);
  return (
    <SessionContext value={{ viewer: data?.viewer ?? null, loading, error, refresh: reload }}>
      {children}
    </SessionContext>
  );
}

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("useSession needs a SessionProvider above it");
  return session;
}
