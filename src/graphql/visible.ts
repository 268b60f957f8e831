import { isMember, type Ownable, type Viewer } from "../core/permissions.ts";
import { canSee } from "../registry/visibility.ts";

interface Owned {
  readonly namespaceId: string;
}

/** What is about a model, and tells of the versions that it compares. */
interface Comparison extends Owned {
  readonly model: Pick<Ownable, "visibility">;
  readonly inputs: readonly {
    readonly version: { readonly namespaceId: string; readonly model: Pick<Ownable, "visibility"> };
  }[];
}

/** What each guarded type must have been loaded with; the `select` of the type's definition sees to it. */
interface GuardedRows {
  readonly Account: { readonly id: string };
  readonly Namespace: { readonly id: string; readonly models: readonly unknown[] };
  readonly Model: Ownable;
  readonly Version: { readonly namespaceId: string; readonly model: Pick<Ownable, "visibility"> };
  readonly File: Owned & { readonly version: { readonly model: Pick<Ownable, "visibility"> } };
  readonly Merge: Owned & { readonly outputModel: Pick<Ownable, "visibility"> };
  readonly Evaluation: Comparison;
  readonly ServingAdvice: Comparison;
  readonly Job: Owned;
}

type Guards = { readonly [Name in keyof GuardedRows]: (viewer: Viewer, row: GuardedRows[Name]) => boolean };

/** A row carries its namespace itself; only the visibility comes from its model. */
const owned = ({ namespaceId }: Owned, { visibility }: Pick<Ownable, "visibility">) => ({
  namespaceId,
  visibility,
});

const canSeeComparison = (viewer: Viewer, { namespaceId, model, inputs }: Comparison) =>
  canSee.comparison(viewer, {
    model: owned({ namespaceId }, model),
    inputs: inputs.map(({ version }) => owned(version, version.model)),
  });

const GUARDS: Guards = {
  Account: (viewer, account) => viewer.isAdmin || viewer.accountId === account.id,
  Namespace: (viewer, namespace) => isMember(viewer, namespace.id) || namespace.models.length > 0,
  Model: (viewer, model) => canSee.model(viewer, model),
  Version: (viewer, version) => canSee.version(viewer, { model: owned(version, version.model) }),
  File: (viewer, file) => canSee.version(viewer, { model: owned(file, file.version.model) }),
  Merge: (viewer, merge) => canSee.merge(viewer, { outputModel: owned(merge, merge.outputModel) }),
  Evaluation: canSeeComparison,
  ServingAdvice: canSeeComparison,
  Job: (viewer, job) => canSee.job(viewer, job),
};

export type Guarded = keyof GuardedRows;

export function isGuarded(type: string): type is Guarded {
  return Object.hasOwn(GUARDS, type);
}

/** Whether the viewer may see a loaded row of a guarded type. A row loaded without what decides is a bug: it throws. */
export function maySeeRow(type: Guarded, viewer: Viewer, row: unknown): boolean {
  return (GUARDS[type] as (viewer: Viewer, row: unknown) => boolean)(viewer, row);
}
