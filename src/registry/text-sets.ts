import { deflateSync, inflateSync } from "node:zlib";
import type { TextSetKind } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import { parseTasks, parseTexts } from "../core/evaluation/texts.ts";
import type { Digest } from "../core/identity.ts";
import type { Tx } from "./db.ts";
import { isStorable } from "./jobs.ts";

/** Lines that somebody sends along. */
export interface NamedLines {
  /** What reports call them; default the kind in small letters. */
  readonly name?: string | null | undefined;
  readonly jsonl: string;
}

/** Lines that were parsed and may be stored. */
export interface ReadLines {
  readonly kind: TextSetKind;
  readonly name: string;
  readonly digest: Digest;
  readonly jsonl: string;
}

/** Far more text than a forward pass on one machine gets through in a day, and no burden to the database. */
const MOST_BYTES = 8_000_000;
const MOST_NAME = 200;
const PARSE = { TEXTS: parseTexts, TASKS: parseTasks } as const;

/**
 * Reads lines as evaluations will.
 * @throws BAD_INPUT, and what `parseTexts` and `parseTasks` throw, with the input's field
 */
export function readLines(kind: TextSetKind, { name, jsonl }: NamedLines, field: string): ReadLines {
  const called = name ?? kind.toLowerCase();
  if (called.trim() === "" || called.length > MOST_NAME || !isStorable(called)) {
    throw new AppError("BAD_INPUT", `A name has 1 to ${MOST_NAME} characters, none of them NUL.`, { field });
  }
  if (Buffer.byteLength(jsonl) > MOST_BYTES) {
    throw new AppError("BAD_INPUT", `${called} has more than ${MOST_BYTES} bytes. Send fewer lines.`, {
      field,
    });
  }
  return { kind, name: called, digest: parsed(kind, called, jsonl, field), jsonl };
}

function parsed(kind: TextSetKind, name: string, jsonl: string, field: string): Digest {
  try {
    return PARSE[kind](name, jsonl).digest;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { code, message, details } = error;
    throw new AppError(code, message, { field, ...(details && { details }) });
  }
}

/** Stores lines, or finds the same ones; returns their row's id. */
export async function storeLines(tx: Tx, namespaceId: string, lines: ReadLines): Promise<string> {
  const { jsonl, ...named } = lines;
  const key = { namespaceId, ...named };
  const document = new Uint8Array(deflateSync(jsonl));
  await tx.textSet.createMany({ data: [{ ...key, document }], skipDuplicates: true });
  const where = { namespaceId_kind_name_digest: key };
  return (await tx.textSet.findUniqueOrThrow({ where, select: { id: true } })).id;
}

/** Stored lines as they were given. */
export function unpackLines(document: Uint8Array): string {
  return inflateSync(document).toString("utf8");
}
