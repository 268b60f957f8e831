import { AppError } from "./errors.ts";
import { type Digest, isDigest } from "./identity.ts";

export interface ModelName {
  readonly namespace: string;
  readonly name: string;
}

/** `owner/name` with what follows the `@`: a number, a digest, a release, an alias, or nothing (the newest). */
export interface VersionRef {
  /** Absent in `@sha256:…`, which stands for any visible version with these bytes. */
  readonly model: ModelName | null;
  readonly at:
    | { readonly by: "latest" }
    | { readonly by: "number"; readonly number: number }
    | { readonly by: "digest"; readonly digest: Digest }
    | { readonly by: "release"; readonly release: string }
    | { readonly by: "alias"; readonly alias: string };
}

const PART = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
const RELEASE = /^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/;
const NUMBER = /^[1-9]\d{0,8}$/;
const ALIAS = /^[a-z][a-z0-9-]{0,62}$/;

/** @throws BAD_REF unless the text is `owner/name`, each part as the Hugging Face Hub allows it */
export function parseModelName(text: string, field = "name"): ModelName {
  const [namespace, name, ...rest] = text.split("/");
  if (namespace === undefined || name === undefined || rest.length > 0) throw bad(text, field);
  for (const part of [namespace, name]) {
    if (!PART.test(part) || part.includes("..") || part.includes("--")) throw bad(text, field);
    if (part.endsWith(".") || part.endsWith("-") || part.endsWith(".git")) throw bad(text, field);
  }
  return { namespace, name };
}

/** A wrong name can be a whole file: a message shows how it begins. */
function shortened(text: string): string {
  return text.length <= 120 ? text : `${text.slice(0, 120)}…`;
}

function bad(text: string, field: string): AppError {
  return new AppError(
    "BAD_REF",
    `"${shortened(text)}" is not a model name: write owner/name, each of letters, digits, "-", "_" and ".", at most 96, ` +
      `not ending in "." or "-", without ".." or "--".`,
    { field },
  );
}

/** Parses `owner/name`, `owner/name@7`, `@v1.2.0`, `@alias`, `@sha256:…`; throws BAD_REF. */
export function parseVersionRef(text: string, field = "ref"): VersionRef {
  const cut = text.indexOf("@");
  const model = cut === 0 ? null : parseModelName(cut < 0 ? text : text.slice(0, cut), field);
  if (cut < 0) return { model, at: { by: "latest" } };
  const after = text.slice(cut + 1);
  if (isDigest(after)) return { model, at: { by: "digest", digest: after } };
  if (model === null) {
    throw new AppError("BAD_REF", `"${shortened(text)}" names no model: only @sha256:… may stand alone.`, {
      field,
    });
  }
  if (NUMBER.test(after)) return { model, at: { by: "number", number: Number(after) } };
  if (RELEASE.test(after)) return { model, at: { by: "release", release: after } };
  if (isAlias(after)) return { model, at: { by: "alias", alias: after } };
  throw new AppError(
    "BAD_REF",
    `"@${shortened(after)}" is not a version: write a number (@7), a release (@v1.2.0), an alias (@champion) or @sha256:….`,
    { field },
  );
}

/** A gate: one that comes with Graftwork (`default`) or a namespace's (`owner/name`), the newest or at a version. */
export interface GateRef {
  /** `null`: it comes with Graftwork. */
  readonly namespace: string | null;
  readonly name: string;
  /** `null`: the newest. */
  readonly version: number | null;
}

/** Parses `default`, `default@1`, `owner/name`, `owner/name@3`; throws BAD_REF. */
export function parseGateRef(text: string, field = "gate"): GateRef {
  const [named = "", at, ...rest] = text.split("@");
  const version = at === undefined ? null : NUMBER.test(at) ? Number(at) : 0;
  if (version === 0 || rest.length > 0 || (!named.includes("/") && !PART.test(named))) {
    throw new AppError(
      "BAD_REF",
      `"${shortened(text)}" is not a gate: write owner/name or the name of a built-in one, with a version if not the newest: default@1.`,
      { field },
    );
  }
  if (!named.includes("/")) return { namespace: null, name: named, version };
  return { ...parseModelName(named, field), version };
}

/** An alias may not look like a number, a release or a digest. */
export function isAlias(text: string): boolean {
  return ALIAS.test(text) && !/^v\d/.test(text) && text !== "sha256";
}

export function formatModelName(name: ModelName): string {
  return `${name.namespace}/${name.name}`;
}

/** `owner/name@7`: what a person writes. */
export function formatVersionRef(name: ModelName, number: number): string {
  return `${formatModelName(name)}@${number}`;
}
