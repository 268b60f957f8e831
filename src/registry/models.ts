import type { Job, Model, ModelKind, Visibility } from "../../prisma/client/client.ts";
import { readModelFacts } from "../core/arch.ts";
import { AppError } from "../core/errors.ts";
import { mayWrite } from "../core/permissions.ts";
import { formatModelName, type ModelName, parseModelName, parseVersionRef } from "../core/refs.ts";
import { type StoredVersion, storeEdge, storeVersion, type VersionFacts } from "./checkpoints.ts";
import { notFound, type RegistryContext, requireAccount, type ViewerContext } from "./context.ts";
import type { Tx } from "./db.ts";
import type { Claim } from "./events.ts";
import { finishJob, holdJob, isStorable, startJob } from "./jobs.ts";
import { visibleTo } from "./visibility.ts";

/** What a model that was not merged here can be. */
export type ImportedKind = Exclude<ModelKind, "MERGED">;

export interface ImportRequest {
  /** `owner/name`; made if it does not exist. */
  readonly name: string;
  /** Default: what the files turn out to be. */
  readonly kind?: ImportedKind | null | undefined;
  /** Folder on the server. */
  readonly path: string;
  /** For a model that is made; one that exists keeps its own. Default PRIVATE. */
  readonly visibility?: Visibility | null | undefined;
  /** For an adapter: the version it was trained on. */
  readonly base?: string | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
}

/** No system takes longer ones. */
const MAX_PATH = 4096;

/** An import's job input, as its handler reads it. */
export interface ImportInput {
  readonly name: string;
  /** `null`: decided by the files. */
  readonly kind: ImportedKind | null;
  readonly path: string;
  readonly visibility: Visibility;
  readonly baseVersionId: string | null;
}

/**
 * Makes a job that reads a folder and records it as a version. The model itself comes into being with its first
 * version, so an import that fails leaves none behind.
 * @throws UNAUTHENTICATED, NOT_FOUND, FORBIDDEN, BAD_REF, KIND_DIFFERS, BAD_INPUT, IDEMPOTENCY_CONFLICT
 */
export async function startImport(ctx: ViewerContext, request: ImportRequest): Promise<Job> {
  requireAccount(ctx.viewer);
  const { path, base = null } = request;
  // Only an adapter has a base, so naming one says what is imported.
  const kind = request.kind ?? (base === null ? null : "ADAPTER");
  const name = parseModelName(request.name);
  if (path.trim() === "" || path.length > MAX_PATH || !isStorable(path)) {
    throw new AppError("BAD_INPUT", "Name the folder on the server that holds the model's files.", {
      field: "path",
    });
  }
  if (base !== null && kind !== "ADAPTER") {
    throw new AppError("BAD_INPUT", "Only an adapter has a base that it was trained on.", { field: "base" });
  }
  const visibility = request.visibility ?? "PRIVATE";
  const asked = { name: request.name, kind, path, visibility, base };
  return await startJob(
    ctx,
    { kind: "IMPORT_VERSION", asked, idempotencyKey: request.idempotencyKey },
    async (tx) => {
      const namespaceId = await writableNamespace(tx, ctx, { name, field: "name" });
      const model = await tx.model.findUnique({
        where: { namespaceId_name: { namespaceId, name: name.name } },
      });
      if (model && kind !== null) requireKind(model, { kind, name, field: "name" });
      const baseVersionId = base === null ? null : await findBase(tx, ctx, base);
      const input = { name: formatModelName(name), kind, path, visibility, baseVersionId };
      return { namespaceId, kind: "IMPORT_VERSION", input, ...(model && { modelId: model.id }) };
    },
  );
}

async function findBase(tx: Tx, ctx: ViewerContext, ref: string): Promise<string> {
  const { id, modelId } = await findVersion(tx, ctx, { ref, field: "base" });
  const { kind } = await tx.model.findUniqueOrThrow({ where: { id: modelId }, select: { kind: true } });
  if (kind !== "ADAPTER") return id;
  throw new AppError(
    "BAD_INPUT",
    `${ref} is an adapter itself: name the full checkpoint it was trained on.`,
    {
      field: "base",
    },
  );
}

/**
 * Records what an import read, and ends its job, in one transaction. Bytes that the model has already are the version
 * it has; that one then points to the folder that was just read.
 * @throws SUPERSEDED, KIND_DIFFERS
 */
export async function recordImport(
  ctx: RegistryContext,
  claim: Claim,
  read: VersionFacts,
): Promise<{ version: StoredVersion; created: boolean }> {
  return await ctx.db.$transaction(async (tx) => {
    const job = await holdJob(tx, claim);
    const input = job.input as unknown as ImportInput;
    const name = parseModelName(input.name);
    const kind = input.kind ?? kindOf(read);
    requireFittingFiles(kind, read);
    const model = await findOrMakeModel(tx, {
      ...input,
      kind,
      namespaceId: job.namespaceId,
      name,
      field: "name",
    });
    const { version, created } = await storeVersion(tx, {
      ...read,
      modelId: model.id,
      origin: "IMPORTED",
      relocate: true,
      now: ctx.now(),
    });
    if (input.baseVersionId !== null) {
      await storeEdge(tx, {
        parentId: input.baseVersionId,
        childId: version.id,
        relation: "TRAINED_ON",
        role: "BASE",
        position: 0,
      });
    }
    await finishJob(tx, claim, {
      now: ctx.now(),
      modelId: model.id,
      versionId: version.id,
      data: { version: `${input.name}@${version.number}`, digest: version.digest, created },
    });
    return { version, created };
  });
}

function kindOf({ facts }: VersionFacts): ImportedKind {
  if (facts.kind === "adapter") return "ADAPTER";
  return readModelFacts(facts.config).quantMethod === null ? "BASE" : "QUANTIZED";
}

function requireFittingFiles(kind: ModelKind, { facts, location }: VersionFacts): void {
  if ((kind === "ADAPTER") === (facts.kind === "adapter")) return;
  const found = facts.kind === "adapter" ? "an adapter" : "a full checkpoint";
  throw new AppError("KIND_DIFFERS", `${location} holds ${found}, but it was to be imported as ${kind}.`, {
    field: "kind",
  });
}

function requireKind(
  model: Model,
  { kind, name, field }: Pick<ModelRequest, "kind" | "name" | "field">,
): void {
  if (model.kind === kind) return;
  throw new AppError(
    "KIND_DIFFERS",
    `${formatModelName(name)} is a model of kind ${model.kind}, not ${kind}. Choose another name.`,
    { field },
  );
}

export interface ModelRequest {
  readonly namespaceId: string;
  readonly name: ModelName;
  readonly kind: ModelKind;
  readonly visibility: Visibility;
  /** The input field that named the model, for errors. */
  readonly field: string;
}

/** The model of that name, made if missing. Throws KIND_DIFFERS. */
export async function findOrMakeModel(tx: Tx, request: ModelRequest): Promise<Model> {
  const { namespaceId, name, kind, visibility } = request;
  const row = { namespaceId, name: name.name };
  await tx.model.createMany({ data: [{ ...row, kind, visibility }], skipDuplicates: true });
  const model = await tx.model.findUniqueOrThrow({ where: { namespaceId_name: row } });
  requireKind(model, request);
  return model;
}

/**
 * The namespace of a model that the viewer wants to write; an admin makes a missing one by the way.
 * @throws NOT_FOUND for a namespace that is missing or none of the viewer's business; FORBIDDEN for a mere reader
 */
export async function writableNamespace(
  tx: Tx,
  ctx: ViewerContext,
  { name, field }: { readonly name: ModelName; readonly field: string },
): Promise<string> {
  const { viewer } = ctx;
  if (viewer.isAdmin) {
    const row = { name: name.namespace };
    // Not an upsert: two of them at the same moment fail one of the two.
    await tx.namespace.createMany({ data: [row], skipDuplicates: true });
    return (await tx.namespace.findUniqueOrThrow({ where: row })).id;
  }
  const namespace = await tx.namespace.findUnique({ where: { name: name.namespace } });
  if (!namespace || !viewer.namespaces.has(namespace.id)) {
    throw notFound(`The namespace "${name.namespace}"`, field);
  }
  if (mayWrite(viewer, namespace.id)) return namespace.id;
  throw new AppError("FORBIDDEN", `Writing to "${name.namespace}" needs the role EDITOR there.`, {
    field,
  });
}

/** Refuses a name that a model of another kind has; one that is free will do. Throws KIND_DIFFERS. */
export async function requireKindOrFree(
  tx: Tx,
  { namespaceId, name, kind, field }: Omit<ModelRequest, "visibility">,
): Promise<void> {
  const row = { namespaceId, name: name.name };
  const model = await tx.model.findUnique({ where: { namespaceId_name: row } });
  if (model) requireKind(model, { kind, name, field });
}

export interface FoundVersion {
  readonly id: string;
  readonly namespaceId: string;
  readonly modelId: string;
  readonly digest: string;
}

/**
 * The version that a reference names: `owner/name` (the newest), `owner/name@7`, `owner/name@sha256:…`, `@sha256:…`.
 * @throws BAD_REF; NOT_FOUND where there is none that the viewer may see
 */
export async function resolveVersion(
  ctx: Pick<ViewerContext, "db" | "viewer">,
  ref: string,
  field = "ref",
): Promise<FoundVersion> {
  return await findVersion(ctx.db, ctx, { ref, field });
}

/** `resolveVersion` inside a transaction. */
export async function findVersion(
  tx: Tx,
  { viewer }: Pick<ViewerContext, "viewer">,
  { ref, field }: { readonly ref: string; readonly field: string },
): Promise<FoundVersion> {
  const { model, at } = parseVersionRef(ref, field);
  const missing = notFound(`The version ${ref}`, field);
  // Releases and aliases are written, but nothing makes them yet.
  if (at.by === "release" || at.by === "alias") throw missing;
  const visible = visibleTo(viewer).version;
  const named = model && { model: { name: model.name, namespace: { name: model.namespace } } };
  const version = await tx.version.findFirst({
    where: {
      AND: [
        visible,
        named ?? {},
        at.by === "number" ? { number: at.number } : {},
        at.by === "digest" ? { digest: at.digest } : {},
      ],
    },
    orderBy: [{ number: "desc" }, { id: "desc" }],
    select: { id: true, namespaceId: true, modelId: true, digest: true },
  });
  if (!version) throw missing;
  return version;
}
