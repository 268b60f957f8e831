import type { Prisma } from "../../prisma/client/client.ts";
import { ANONYMOUS, isMember, maySee, type Ownable, type Viewer } from "../core/permissions.ts";
import type { Db } from "./db.ts";

/** Loads what an account may see, in one query; nobody for an account that is gone. */
export async function loadViewer(db: Db, accountId: string | null): Promise<Viewer> {
  if (accountId === null) return ANONYMOUS;
  const account = await db.account.findUnique({ where: { id: accountId }, select: VIEWER_FIELDS });
  return account ? toViewer(account) : ANONYMOUS;
}

/** What `toViewer` needs of an account; select it along with a token or a session. */
export const VIEWER_FIELDS = {
  id: true,
  isAdmin: true,
  memberships: { select: { namespaceId: true, role: true } },
} satisfies Prisma.AccountSelect;

type ViewerRow = Prisma.AccountGetPayload<{ select: typeof VIEWER_FIELDS }>;

export function toViewer(account: ViewerRow): Viewer {
  const namespaces = new Map(account.memberships.map(({ namespaceId, role }) => [namespaceId, role]));
  return { accountId: account.id, isAdmin: account.isAdmin, namespaces };
}

/** `where` conditions that keep what the viewer may see, one for each table whose rows a list may hand out. */
export interface Visible {
  readonly namespace: Prisma.NamespaceWhereInput;
  readonly model: Prisma.ModelWhereInput;
  readonly version: Prisma.VersionWhereInput;
  readonly file: Prisma.FileWhereInput;
  /** Both ends must be visible. */
  readonly edge: Prisma.LineageEdgeWhereInput;
  readonly recipe: Prisma.RecipeWhereInput;
  readonly merge: Prisma.MergeWhereInput;
  /** What it is about and every version that it compares must be visible: its report tells of all of them. */
  readonly evaluation: Prisma.EvaluationWhereInput;
  /** As an evaluation. */
  readonly advice: Prisma.ServingAdviceWhereInput;
  /** Members only: what a namespace asks of its models is its own business. */
  readonly gate: Prisma.GateWhereInput;
  /** Members only: a job's input and errors name paths of the server. */
  readonly job: Prisma.JobWhereInput;
}

const EVERYTHING: Visible = {
  namespace: {},
  model: {},
  version: {},
  file: {},
  edge: {},
  recipe: {},
  merge: {},
  evaluation: {},
  advice: {},
  gate: {},
  job: {},
};

export function visibleTo(viewer: Viewer): Visible {
  if (viewer.isAdmin) return EVERYTHING;
  const member = { namespaceId: { in: [...viewer.namespaces.keys()] } };
  const model: Prisma.ModelWhereInput = { OR: [{ visibility: "PUBLIC" }, member] };
  const version: Prisma.VersionWhereInput = { model };
  const merge: Prisma.MergeWhereInput = { outputModel: model };
  return {
    namespace: {
      OR: [{ id: { in: [...viewer.namespaces.keys()] } }, { models: { some: { visibility: "PUBLIC" } } }],
    },
    model,
    version,
    file: { version },
    edge: { parent: version, child: version },
    recipe: { OR: [member, { merges: { some: merge } }] },
    merge,
    evaluation: { model, inputs: { every: { version } } },
    advice: { model, inputs: { every: { version } } },
    gate: member,
    job: member,
  };
}

interface SeenComparison {
  readonly model: Ownable;
  /** The models of the versions that it compares. */
  readonly inputs: readonly Ownable[];
}

/** The same decision for one loaded row; each names the fields it must have been loaded with. */
export const canSee = {
  model: (viewer: Viewer, model: Ownable): boolean => maySee(viewer, model),
  version: (viewer: Viewer, version: { readonly model: Ownable }): boolean => maySee(viewer, version.model),
  merge: (viewer: Viewer, merge: { readonly outputModel: Ownable }): boolean =>
    maySee(viewer, merge.outputModel),
  /** An evaluation or an advice. */
  comparison: (viewer: Viewer, { model, inputs }: SeenComparison): boolean =>
    maySee(viewer, model) && inputs.every((input) => maySee(viewer, input)),
  job: (viewer: Viewer, job: { readonly namespaceId: string }): boolean => isMember(viewer, job.namespaceId),
};
