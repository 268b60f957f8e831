import { useSyncExternalStore } from "react";
import { formatRelative, formatUtc } from "./format.ts";

const TICK_MS = 15_000;

function subscribe(listener: () => void): () => void {
  const timer = setInterval(listener, TICK_MS);
  return () => clearInterval(timer);
}

// Rounded to the tick: the snapshot must not differ between two reads in one render.
const now = () => Math.ceil(Date.now() / TICK_MS) * TICK_MS;

/** How long ago, in words, with the exact time in UTC on hover. */
export function Time({ iso }: { readonly iso: string }) {
  const tick = useSyncExternalStore(subscribe, now);
  return (
    <time dateTime={iso} title={formatUtc(iso)}>
      {formatRelative(Date.parse(iso), Math.min(tick, Date.now()))}
    </time>
  );
}
