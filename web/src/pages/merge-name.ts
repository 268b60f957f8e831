/**
 * A name for the result of a merge: beside the adapter, `demo/base@1` and `demo/polite@2` → `demo/base-polite`.
 * Empty until both are chosen. A reference without a model (`@sha256:…`) suggests nothing.
 */
export function suggestOutput(base: string, adapter: string): string {
  const [, baseName] = nameOf(base);
  const [owner, adapterName] = nameOf(adapter);
  if (!baseName || !adapterName) return "";
  const name = `${baseName}-${adapterName}`.slice(0, 96).replace(/[-.]+$/, "");
  return `${owner}/${name}`;
}

function nameOf(ref: string): [owner: string, name: string] {
  const [owner = "", name = ""] = ref.split("@")[0]!.split("/");
  return [owner, name];
}
