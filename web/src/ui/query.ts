import { useCallback, useEffect, useRef, useState } from "react";
import type { Document } from "../../../src/client/document.ts";
import { ask } from "../api.ts";

export interface Query<R> {
  /** The latest answer; stays while a newer one to the same document is on its way. */
  readonly data: R | null;
  readonly error: unknown;
  readonly loading: boolean;
  readonly reload: () => void;
}

/**
 * Asks when first shown and again whenever the variables change; the last question wins. `null` as variables: do not
 * ask (yet).
 */
export function useQuery<R, V>(document: Document<R, V>, variables: V | null): Query<R> {
  const [state, setState] = useState<{ data: R | null; error: unknown; loading: boolean }>({
    data: null,
    error: null,
    loading: variables !== null,
  });
  const [round, setRound] = useState(0);
  // Variables are compared by value, so that callers may write them as object literals.
  const key = variables === null ? null : JSON.stringify(variables);
  const latest = useRef(variables);
  latest.current = variables;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for the variables, `round` for reload()
  useEffect(() => {
    if (key === null) {
      setState({ data: null, error: null, loading: false });
      return;
    }
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    ask(document, latest.current as V, abort.signal).then(
      (data) => {
        if (!abort.signal.aborted) setState({ data, error: null, loading: false });
      },
      (error: unknown) => {
        if (!abort.signal.aborted) setState({ data: null, error, loading: false });
      },
    );
    return () => abort.abort();
  }, [document, key, round]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  return { ...state, reload };
}

/** `value`, once it has not changed for `ms`: for questions that follow typing. */
export function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
