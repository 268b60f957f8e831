import type { LineageRelation, LineageRole, Prisma, VersionOrigin } from "../../prisma/client/client.ts";
import { countParameters, readModelFacts } from "../core/arch.ts";
import { allTensors, type CheckpointFacts, type FileFacts, type VersionDigests } from "../core/checkpoint.ts";
import type { Finding } from "../core/errors.ts";
import type { Digest } from "../core/identity.ts";
import type { JsonObject } from "../core/json.ts";
import { formatVersionRef } from "../core/refs.ts";
import type { Tx } from "./db.ts";
import { toJson } from "./jobs.ts";
import { packTensors, unpackTensors } from "./tensors.ts";

/** What a worker learnt of a folder: everything but the tensors' bytes, every tensor digested. */
export interface VersionFacts {
  readonly facts: CheckpointFacts;
  readonly digests: VersionDigests;
  /** Absolute folder that holds the files. */
  readonly location: string;
  readonly warnings?: readonly Finding[];
}

export interface StoredVersion {
  readonly id: string;
  readonly modelId: string;
  readonly namespaceId: string;
  readonly number: number;
  readonly digest: string;
  readonly location: string;
  readonly origin: VersionOrigin;
}

export interface StoreResult {
  readonly version: StoredVersion;
  /** False where the model had a version with these bytes already. */
  readonly created: boolean;
  /** A folder of merged bytes that no version names (any more): the caller removes it. */
  readonly unusedLocation: string | null;
}

export interface StoreRequest extends VersionFacts {
  readonly modelId: string;
  readonly origin: VersionOrigin;
  /** Point a version that exists already to these files: they were just read and found to be its bytes. */
  readonly relocate: boolean;
  readonly now: Date;
}

/**
 * Stores a version of a model, or finds the one with the same bytes. Locks the model's row, so that numbers have no
 * gaps and two workers with the same bytes make one version.
 */
export async function storeVersion(tx: Tx, request: StoreRequest): Promise<StoreResult> {
  const { modelId, origin, location, digests, relocate } = request;
  const model = await tx.model.update({
    where: { id: modelId },
    data: { updatedAt: request.now },
    select: { namespaceId: true, latestNumber: true },
  });
  const existing = await tx.version.findUnique({
    where: { modelId_digest: { modelId, digest: digests.version } },
  });
  if (existing) {
    if (existing.location === location) return { version: existing, created: false, unusedLocation: null };
    if (!relocate) {
      return { version: existing, created: false, unusedLocation: origin === "MERGED" ? location : null };
    }
    await tx.file.deleteMany({ where: { versionId: existing.id } });
    await storeFiles(tx, request, existing);
    const version = await tx.version.update({ where: { id: existing.id }, data: { location, origin } });
    const unusedLocation = existing.origin === "MERGED" ? existing.location : null;
    return { version, created: false, unusedLocation };
  }
  const number = model.latestNumber + 1;
  await tx.model.update({ where: { id: modelId }, data: { latestNumber: number } });
  const version = await tx.version.create({
    data: { modelId, namespaceId: model.namespaceId, number, ...versionColumns(request) },
  });
  await storeFiles(tx, request, version);
  return { version, created: true, unusedLocation: null };
}

function versionColumns(request: StoreRequest) {
  const { facts, digests, origin, location, now, warnings = [] } = request;
  const { parameters, dtype } = countParameters(facts);
  const { architecture, modelType } = readModelFacts(facts.config);
  return {
    digest: digests.version,
    weightsDigest: digests.weights,
    origin,
    location,
    sizeBytes: facts.files.reduce((sum, file) => sum + BigInt(file.size), 0n),
    parameters: BigInt(parameters),
    tensorCount: allTensors(facts).length,
    dtype: dtype ?? "",
    architecture,
    modelType,
    config: toJson(facts.config),
    ...(facts.index && { shardIndex: toJson(facts.index) }),
    ...(facts.tokenizer && { tokenizer: toJson(facts.tokenizer) }),
    hasCode: facts.hasCode,
    warnings: warnings.map(toJson),
    createdAt: now,
  } satisfies Partial<Prisma.VersionUncheckedCreateInput>;
}

async function storeFiles(
  tx: Tx,
  { facts }: StoreRequest,
  version: { readonly id: string; readonly namespaceId: string },
): Promise<void> {
  const rows = await tx.file.createManyAndReturn({
    data: facts.files.map(({ path, role, size, digest, stamp }) => ({
      namespaceId: version.namespaceId,
      versionId: version.id,
      path,
      role,
      size: BigInt(size),
      digest,
      ...stamp,
    })),
    select: { id: true, path: true },
  });
  const ids = new Map(rows.map((row) => [row.path, row.id]));
  await tx.tensorIndex.createMany({
    data: facts.weights.map((file) => {
      const fileId = ids.get(file.path);
      if (fileId === undefined) throw new Error(`weights file ${file.path} is not among the version's files`);
      return { fileId, tensorCount: file.tensors.length, document: packTensors(file) };
    }),
  });
}

export interface NewEdge {
  readonly parentId: string;
  readonly childId: string;
  readonly relation: LineageRelation;
  readonly role: LineageRole;
  readonly position: number;
  readonly weight?: number | null;
  readonly recipeDigest?: string | null;
}

/** Records where a version came from; a second time is the same as once. */
export async function storeEdge(tx: Tx, edge: NewEdge): Promise<void> {
  const { parentId, childId } = edge;
  const [parent, child] = await Promise.all([
    tx.version.findUniqueOrThrow({ where: { id: parentId }, select: { digest: true } }),
    tx.version.findUniqueOrThrow({ where: { id: childId }, select: { namespaceId: true } }),
  ]);
  // A version is no ancestor of itself: an adapter may leave its base as it was, byte for byte.
  if (parentId === childId) return;
  const row = { ...edge, namespaceId: child.namespaceId, parentDigest: parent.digest };
  await tx.lineageEdge.createMany({ data: [row], skipDuplicates: true });
}

/** A stored version as plans and engines take it. */
export interface LoadedVersion {
  readonly id: string;
  readonly namespaceId: string;
  /** `owner/name@7`. */
  readonly label: string;
  readonly digest: Digest;
  readonly weightsDigest: Digest;
  readonly location: string;
  readonly facts: CheckpointFacts;
}

/** Loads what is known of a version: files with their stamps, headers with digests and statistics, configs. */
export async function loadVersion(tx: Tx, id: string): Promise<LoadedVersion> {
  const row = await tx.version.findUniqueOrThrow({
    where: { id },
    include: {
      model: { select: { name: true, kind: true, namespace: { select: { name: true } } } },
      files: { include: { tensorIndex: true }, orderBy: { path: "asc" } },
    },
  });
  const { model, files } = row;
  return {
    id: row.id,
    namespaceId: row.namespaceId,
    label: formatVersionRef({ namespace: model.namespace.name, name: model.name }, row.number),
    // Written from digests that core made.
    digest: row.digest as Digest,
    weightsDigest: row.weightsDigest as Digest,
    location: row.location,
    facts: {
      kind: model.kind === "ADAPTER" ? "adapter" : "checkpoint",
      files: files.map(toFileFacts),
      weights: files.flatMap((file) => (file.tensorIndex ? [unpackTensors(file.tensorIndex.document)] : [])),
      config: row.config as JsonObject,
      index: row.shardIndex as CheckpointFacts["index"],
      tokenizer: row.tokenizer as unknown as CheckpointFacts["tokenizer"],
      hasCode: row.hasCode,
    },
  };
}

type FileRow = Prisma.FileGetPayload<object>;

function toFileFacts(file: FileRow): FileFacts {
  const { path, role, realPath, mtimeNs, inode } = file;
  const stamp =
    realPath !== null && mtimeNs !== null && inode !== null ? { realPath, mtimeNs, inode } : undefined;
  return {
    path,
    role,
    size: Number(file.size),
    digest: file.digest as Digest | null,
    ...(stamp && { stamp }),
  };
}
