import type { DeviceUse as UseShape } from "../core/devices.ts";
import { builder } from "./builder.ts";
import { CheckReport, readReport } from "./check.ts";
import { DeviceUse } from "./device.ts";
import { Device, LineageRole, MergeState, MergeVerdict } from "./enums.ts";
import { Recipe } from "./recipe.ts";
import { Version } from "./version.ts";

interface VerificationShape {
  readonly verdict: "PASSED" | "WARNED" | "FAILED";
  readonly at: Date;
  readonly report: unknown;
}

const Verification = builder.objectRef<VerificationShape>("Verification").implement({
  description: "The last time that a merge was derived again and its digests compared.",
  fields: (t) => ({
    verdict: t.expose("verdict", { type: MergeVerdict, description: "The outcome." }),
    at: t.expose("at", { type: "DateTime", description: "When it ended." }),
    report: t.field({
      type: "JSON",
      nullable: true,
      description: "What was compared, and what differed.",
      resolve: ({ report }) => report,
    }),
  }),
});

const MergeInput = builder.prismaObject("MergeInput", {
  description: "One input of a merge.",
  fields: (t) => ({
    role: t.expose("role", { type: LineageRole, description: "What the input is to the merge." }),
    weight: t.exposeFloat("weight", {
      nullable: true,
      description: "The adapter's weight; null for the base.",
    }),
    version: t.relation("version", { description: "The version that goes in.", nullable: true }),
  }),
});

export const Merge = builder.prismaNode("Merge", {
  id: { field: "id" },
  nullable: true,
  description: "One execution of a recipe; it yields a version of kind MERGED.",
  select: { id: true, namespaceId: true, outputModel: { select: { visibility: true } } },
  fields: (t) => ({
    state: t.expose("state", { type: MergeState, description: "How far it has come." }),
    recipe: t.field({
      type: Recipe,
      nullable: true,
      description: "What was merged.",
      select: { recipe: { select: { digest: true, document: true } } },
      resolve: ({ recipe }) => recipe,
    }),
    output: t.relation("outputModel", { description: "The model that gets the version.", nullable: true }),
    version: t.relation("version", { description: "The result; null until it is there.", nullable: true }),
    cachedFrom: t.relation("cachedFrom", {
      description: "The merge whose result this one took over instead of computing it again.",
      nullable: true,
    }),
    inputs: t.relation("inputs", {
      type: MergeInput,
      description: "What it merges: the base, then the adapters.",
      query: { orderBy: { position: "asc" } },
    }),
    device: t.expose("device", { type: Device, description: "What multiplies." }),
    deviceUse: t.field({
      type: DeviceUse,
      nullable: true,
      description:
        "How near it is to the canonical value; null for CPU, which is that value, and until it ran.",
      select: { deviceUse: true },
      resolve: ({ deviceUse }) => deviceUse as UseShape | null,
    }),
    threads: t.exposeInt("threads", {
      nullable: true,
      description: "Worker threads used; null until it ran.",
    }),
    engineVersion: t.exposeString("engineVersion", {
      nullable: true,
      description: "The version of Graftwork that ran it; null until it ran.",
    }),
    verdict: t.expose("verdict", {
      type: MergeVerdict,
      nullable: true,
      description: "The check's outcome; null until it ran.",
    }),
    report: t.field({
      type: CheckReport,
      nullable: true,
      description: "What the check after the merge found; null until it ran.",
      select: { report: true },
      resolve: ({ report }) => readReport(report),
    }),
    verification: t.field({
      type: Verification,
      nullable: true,
      description: "The last verification; null before the first.",
      select: { verification: true, verifyVerdict: true, verifiedAt: true },
      resolve: ({ verification, verifyVerdict, verifiedAt }) =>
        verifyVerdict && verifiedAt ? { verdict: verifyVerdict, at: verifiedAt, report: verification } : null,
    }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was asked for." }),
    startedAt: t.expose("startedAt", {
      type: "DateTime",
      nullable: true,
      description: "When a worker first took it.",
    }),
    finishedAt: t.expose("finishedAt", { type: "DateTime", nullable: true, description: "When it ended." }),
    jobs: t.relatedConnection(
      "jobs",
      {
        description: "The jobs that run or verify it, the newest first.",
        cursor: "id",
        nullable: true,
        query: { orderBy: [{ id: "desc" }] },
      },
      { name: "JobConnection" },
      { name: "JobEdge" },
    ),
  }),
});

// A cached merge points at the same version; the one that wrote it has no `cachedFrom`.
const maker = { where: { cachedFromId: null }, orderBy: { id: "asc" }, take: 1 } as const;

builder.prismaObjectFields(Version, (t) => ({
  merge: t.field({
    type: Merge,
    nullable: true,
    description: "The merge that made it; null for imported versions.",
    select: (_, __, nested) => ({ merges: nested(maker) }),
    // The selection brings what the type needs to be guarded; TypeScript does not see through it.
    resolve: ({ merges }) => (merges[0] ?? null) as typeof Merge.$inferType | null,
  }),
  recipe: t.field({
    type: Recipe,
    nullable: true,
    description: "The recipe that made it; null for imported versions.",
    select: {
      merges: { ...maker, select: { recipe: { select: { digest: true, document: true } } } },
    },
    resolve: ({ merges }) => merges[0]?.recipe ?? null,
  }),
}));
