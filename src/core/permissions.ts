/** What a member may do in a namespace; each role includes the ones before it. */
export type Role = "VIEWER" | "EDITOR" | "ADMIN";

/** Who asks, and what of the private things they may see. Loaded once a request. */
export interface Viewer {
  /** `null`: nobody signed in. */
  readonly accountId: string | null;
  /** May read and write every namespace. */
  readonly isAdmin: boolean;
  /** Role by namespace id. */
  readonly namespaces: ReadonlyMap<string, Role>;
}

/** Somebody who has not signed in: sees what is public. */
export const ANONYMOUS: Viewer = { accountId: null, isAdmin: false, namespaces: new Map() };

/** Whether the viewer sees what is private in a namespace. */
export function isMember(viewer: Viewer, namespaceId: string): boolean {
  return viewer.isAdmin || viewer.namespaces.has(namespaceId);
}

/** Whether the viewer may import, merge, and stop jobs in a namespace. */
export function mayWrite(viewer: Viewer, namespaceId: string): boolean {
  const role = viewer.namespaces.get(namespaceId);
  return viewer.isAdmin || role === "EDITOR" || role === "ADMIN";
}

/** A model, or whatever stands for one, as visibility sees it. */
export interface Ownable {
  readonly namespaceId: string;
  readonly visibility: "PUBLIC" | "PRIVATE";
}

/** Whether the viewer sees a model, and with it its versions. */
export function maySee(viewer: Viewer, model: Ownable): boolean {
  return model.visibility === "PUBLIC" || isMember(viewer, model.namespaceId);
}
