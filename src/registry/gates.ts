import type { Gate as GateRow, Prisma } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import { DEFAULT_GATE, gateDigest, parseGate } from "../core/evaluation/gates.ts";
import type { Gate } from "../core/evaluation/report.ts";
import type { Digest } from "../core/identity.ts";
import { isMember } from "../core/permissions.ts";
import { formatModelName, type GateRef, parseGateRef, parseModelName } from "../core/refs.ts";
import { notFound, requireAccount, type ViewerContext } from "./context.ts";
import { lockName, type Tx } from "./db.ts";
import { toJson } from "./jobs.ts";
import { writableNamespace } from "./models.ts";

/** Gates that come with Graftwork; everybody may use them. */
export const BUILT_IN_GATES: readonly Gate[] = [DEFAULT_GATE];

/** A gate with what is known of it; a built-in one belongs to no namespace. */
export interface FoundGate {
  readonly gate: Gate;
  readonly digest: Digest;
  readonly row: GateRow | null;
}

export interface GateRequest {
  /** `owner/name`. */
  readonly gate: string;
  /** Thresholds and the rest as `parseGate` reads them; name and version are not the caller's to choose. */
  readonly document: Readonly<Record<string, unknown>>;
}

/**
 * Sets a namespace's gate: makes its next version. A document that says what the newest version says makes none, and
 * that version is the answer.
 * @throws UNAUTHENTICATED, BAD_REF, BAD_GATE, NOT_FOUND, FORBIDDEN
 */
export async function setGate(ctx: ViewerContext, request: GateRequest): Promise<FoundGate> {
  const createdById = requireAccount(ctx.viewer);
  const name = parseModelName(request.gate, "gate");
  const parsed = parseGate({ ...request.document, name: name.name, version: 1, calibration: null });
  // In reports it is called as people refer to it.
  const wanted = (version: number): Gate => ({ ...parsed, name: formatModelName(name), version });
  return await ctx.db.$transaction(async (tx) => {
    const namespaceId = await writableNamespace(tx, ctx, { name, field: "gate" });
    await lockName(tx, `gate ${namespaceId} ${name.name}`);
    const newest = await newestOf(tx, { namespaceId, name: name.name });
    if (newest && newest.digest === gateDigest(wanted(newest.version))) return found(newest);
    const gate = wanted((newest?.version ?? 0) + 1);
    const row = await tx.gate.create({
      data: {
        namespaceId,
        createdById,
        name: name.name,
        version: gate.version,
        digest: gateDigest(gate),
        document: toJson(gate),
        createdAt: ctx.now(),
      },
    });
    return found(row);
  });
}

async function newestOf(tx: Pick<Tx, "gate">, where: Prisma.GateWhereInput): Promise<GateRow | null> {
  return await tx.gate.findFirst({ where, orderBy: { version: "desc" } });
}

/** A stored gate. Written from a document that core parsed. */
export function found(row: GateRow): FoundGate {
  return { gate: row.document as unknown as Gate, digest: row.digest as Digest, row };
}

/**
 * The gate that a reference names: `default`, `default@1`, `owner/name`, `owner/name@3`.
 * @throws BAD_REF; NOT_FOUND where there is none that the viewer may use
 */
export async function findGate(
  ctx: Pick<ViewerContext, "db" | "viewer">,
  text: string,
  field = "gate",
): Promise<FoundGate> {
  const ref = parseGateRef(text, field);
  const gate = ref.namespace === null ? findBuiltIn(ref) : await findOwn(ctx, ref);
  if (gate) return gate;
  throw notFound(`The gate ${text}`, field);
}

function findBuiltIn({ name, version }: GateRef): FoundGate | null {
  const gates = BUILT_IN_GATES.filter((gate) => gate.name === name);
  const gate = version === null ? gates.at(-1) : gates.find((candidate) => candidate.version === version);
  return gate ? { gate, digest: gateDigest(gate), row: null } : null;
}

async function findOwn(
  { db, viewer }: Pick<ViewerContext, "db" | "viewer">,
  { namespace, name, version }: GateRef,
): Promise<FoundGate | null> {
  const row = await newestOf(db, {
    name,
    namespace: { name: namespace! },
    ...(version !== null && { version }),
  });
  return row && isMember(viewer, row.namespaceId) ? found(row) : null;
}

/** Refuses texts for an evaluation that nobody asked for. Throws BAD_INPUT. */
export function requireGateWithTexts(request: { readonly gate?: unknown; readonly texts?: unknown }): void {
  if (!request.texts || request.gate) return;
  throw new AppError("BAD_INPUT", "Texts are for the evaluation after the merge: name its gate too.", {
    field: "texts",
  });
}
