import { formatVersionRef } from "../core/refs.ts";
import { notFound } from "../registry/context.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder, decodeId } from "./builder.ts";
import type { GraphContext } from "./context.ts";

export const VersionRefInput = builder.inputType("VersionRefInput", {
  isOneOf: true,
  description: "Which version, said in one way.",
  fields: (t) => ({
    ref: t.string({
      description: "`owner/name@7`, `owner/name` for the newest, `owner/name@sha256:…`, `@sha256:…`.",
    }),
    digest: t.field({ type: "Sha256", description: "Any version with these bytes that the viewer may see." }),
    id: t.id({ description: "The id of a Version." }),
  }),
});

/** The reference as the registry reads it. Throws NOT_FOUND for an id of nothing that the viewer may see. */
export async function toRef(
  context: GraphContext,
  input: typeof VersionRefInput.$inferInput,
  field: string,
): Promise<string> {
  if (typeof input.ref === "string") return input.ref;
  if (input.digest) return `@${input.digest}`;
  const { typename, id } = decodeId(input.id ?? "");
  const { db, viewer } = context;
  const version = await db.version.findFirst({
    where: { AND: [{ id }, visibleTo(viewer).version] },
    select: { number: true, model: { select: { name: true, namespace: { select: { name: true } } } } },
  });
  if (typename !== "Version" || !version) throw notFound(`The version with id ${input.id}`, field);
  const { model, number } = version;
  return formatVersionRef({ namespace: model.namespace.name, name: model.name }, number);
}
