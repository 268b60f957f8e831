import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import canonicalize from "canonicalize";
import type { Dtype } from "./dtype.ts";
import { AppError } from "./errors.ts";

declare const digestBrand: unique symbol;
/** `sha256:` and 64 lower-case hex digits. Made by `parseDigest` or by a digest function only. */
export type Digest = string & { readonly [digestBrand]: true };

const DIGEST = /^sha256:[0-9a-f]{64}$/;

export function isDigest(text: unknown): text is Digest {
  return typeof text === "string" && DIGEST.test(text);
}

/** @throws BAD_DIGEST unless the text is `sha256:` and 64 lower-case hex digits */
export function parseDigest(text: string, field = "digest"): Digest {
  if (isDigest(text)) return text;
  throw new AppError(
    "BAD_DIGEST",
    `${field} "${text}" is not a digest: write sha256: and 64 lower-case hex digits.`,
    {
      field,
    },
  );
}

/** Canonical JSON, RFC 8785 (JCS): sorted keys, no white space, ECMAScript numbers. */
export function canonicalJson(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw new Error("a value without a JSON form cannot be digested");
  return text;
}

export function digestBytes(bytes: Uint8Array): Digest {
  return `sha256:${bytesToHex(sha256(bytes))}` as Digest;
}

export function digestJson(value: unknown): Digest {
  return digestBytes(utf8ToBytes(canonicalJson(value)));
}

export interface DigestedTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** sha256 of the tensor's bytes: little-endian, row-major. */
  readonly digest: string;
}

/** Digest of a set of tensors, the same for any sharding: `[[name, dtype, shape, digest], …]` sorted by name. */
export function weightsDigest(tensors: readonly DigestedTensor[]): Digest {
  return digestJson(
    [...tensors].sort((a, b) => compareText(a.name, b.name)).map((t) => [t.name, t.dtype, t.shape, t.digest]),
  );
}

export interface DigestedFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly digest: string;
}

/** Digest of a version: its weights and its config, tokenizer, template and code files (`identityFiles`). */
export function versionDigest(weights: Digest, files: readonly DigestedFile[]): Digest {
  return digestJson({
    weights,
    files: [...files].sort((a, b) => compareText(a.path, b.path)).map((f) => [f.path, f.size, f.digest]),
  });
}

/** Order by UTF-16 code units, as RFC 8785 orders keys: the same on every machine, unlike a locale's. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
