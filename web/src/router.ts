import { useSyncExternalStore } from "react";
import type { ModelKind } from "../../src/client/types.ts";

export const KINDS = ["BASE", "ADAPTER", "MERGED", "QUANTIZED"] as const satisfies readonly ModelKind[];

export const VERSION_TABS = ["overview", "lineage", "tensors", "recipe"] as const;
export type VersionTab = (typeof VERSION_TABS)[number];

/** What a merge form may say beyond its inputs; absent: the default. */
export const MERGE_OPTIONS = ["dtype", "numerics", "ties", "include", "exclude", "layers", "gate"] as const;
export type MergeOption = (typeof MERGE_OPTIONS)[number];

/** What an address may say of an option that has a list of values; anything else is the default. */
const KNOWN: Partial<Record<MergeOption, readonly string[]>> = {
  dtype: ["BF16", "F16", "F32"],
  numerics: ["EXACT"],
  ties: ["PEFT"],
};

/** Every state of the console that can be linked to; `formatRoute` and `parseRoute` are inverses. */
export type Route =
  | { readonly page: "models"; readonly kind: ModelKind | null; readonly after: string | null }
  | {
      readonly page: "version";
      readonly ref: string;
      readonly tab: VersionTab;
      readonly after: string | null;
    }
  | ({
      readonly page: "merge";
      readonly base: string;
      readonly adapter: string;
      readonly output: string;
    } & Partial<Record<MergeOption, string>>)
  | { readonly page: "import" }
  | { readonly page: "job"; readonly id: string }
  | { readonly page: "signin"; readonly next: string | null }
  | { readonly page: "missing"; readonly path: string };

export const HOME: Route = { page: "models", kind: null, after: null };

export function versionRoute(ref: string, tab: VersionTab = "overview"): Route {
  return { page: "version", ref, tab, after: null };
}

/** Path and query of an address as a route; an unknown path is the route `missing`, never an exception. */
export function parseRoute(address: string): Route {
  const { pathname, searchParams } = new URL(address, "http://console");
  const [first, ...rest] = pathname.split("/").filter(Boolean).map(decode);
  const get = (key: string) => searchParams.get(key) || null;
  if (first === undefined || (first === "models" && rest.length === 0)) {
    return { page: "models", kind: oneOf(KINDS, get("kind")), after: get("after") };
  }
  if (first === "models" && rest.length === 2) {
    const tab = oneOf(VERSION_TABS, get("tab")) ?? "overview";
    return { page: "version", ref: rest.join("/"), tab, after: get("after") };
  }
  if (first === "jobs" && rest.length === 1) return { page: "job", id: rest[0]! };
  if (rest.length === 0) {
    if (first === "import") return { page: "import" };
    if (first === "signin") return { page: "signin", next: localPath(get("next")) };
    if (first === "merge") {
      return {
        page: "merge",
        base: get("base") ?? "",
        adapter: get("adapter") ?? "",
        output: get("output") ?? "",
        ...Object.fromEntries(
          MERGE_OPTIONS.flatMap((key) => {
            const value = KNOWN[key] ? oneOf(KNOWN[key], get(key)) : get(key);
            return value ? [[key, value]] : [];
          }),
        ),
      };
    }
  }
  return { page: "missing", path: pathname };
}

/** The options that a route sets, in a fixed order. */
export function mergeOptions(route: Partial<Record<MergeOption, string>>): Record<string, string> {
  return Object.fromEntries(MERGE_OPTIONS.flatMap((key) => (route[key] ? [[key, route[key]]] : [])));
}

/** The address (path and query) of a route. */
export function formatRoute(route: Route): string {
  switch (route.page) {
    case "models":
      return `/models${query({ kind: route.kind, after: route.after })}`;
    case "version": {
      const path = route.ref.split("/").map(encodePart).join("/");
      const tab = route.tab === "overview" ? null : route.tab;
      return `/models/${path}${query({ tab, after: route.after })}`;
    }
    case "merge":
      return `/merge${query({ base: route.base, adapter: route.adapter, output: route.output, ...mergeOptions(route) })}`;
    case "import":
      return "/import";
    case "job":
      return `/jobs/${encodePart(route.id)}`;
    case "signin":
      return `/signin${query({ next: route.next })}`;
    case "missing":
      return route.path;
  }
}

function query(values: Record<string, string | null>): string {
  const set = Object.entries(values).filter((entry): entry is [string, string] => Boolean(entry[1]));
  const text = new URLSearchParams(set).toString();
  return text === "" ? "" : `?${text}`;
}

/** "@" and ":" are legal in a path and keep references readable in the address bar. */
function encodePart(part: string): string {
  return encodeURIComponent(part).replaceAll("%40", "@").replaceAll("%3A", ":");
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function oneOf<T extends string>(allowed: readonly T[], value: string | null): T | null {
  return allowed.find((item) => item === value) ?? null;
}

/** A link that sends people on after signing in must not lead to another host. */
function localPath(path: string | null): string | null {
  if (path === null || !path.startsWith("/")) return null;
  const url = new URL(path, "http://console");
  return url.origin === "http://console" ? url.pathname + url.search : null;
}

const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("popstate", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("popstate", listener);
  };
}

const currentAddress = () => window.location.pathname + window.location.search;

/** The address shown now; the component renders again when it changes. */
export function useAddress(): string {
  return useSyncExternalStore(subscribe, currentAddress);
}

/**
 * Goes to a route. `replace` rewrites the current entry of the history instead of adding one: for a form that
 * keeps its state in the address.
 */
export function navigate(to: Route | string, { replace = false } = {}): void {
  const address = typeof to === "string" ? to : formatRoute(to);
  if (address === currentAddress()) return;
  if (replace) window.history.replaceState(null, "", address);
  else {
    window.history.pushState(null, "", address);
    window.scrollTo(0, 0);
  }
  for (const listener of [...listeners]) listener();
}
