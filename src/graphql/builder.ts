import SchemaBuilder, { PothosValidationError } from "@pothos/core";
import PrismaPlugin from "@pothos/plugin-prisma";
import RelayPlugin from "@pothos/plugin-relay";
import type PrismaTypes from "../../prisma/pothos-types.ts";
import { getDatamodel } from "../../prisma/pothos-types.ts";
import type { Digest } from "../core/identity.ts";
import type { Json } from "../core/json.ts";
import type { GraphContext } from "./context.ts";
import "./guard.ts";
import { DEFAULT_PAGE, MAX_PAGE } from "./limits.ts";
import { isGuarded, maySeeRow } from "./visible.ts";

export interface SchemaShape {
  PrismaTypes: PrismaTypes;
  Context: GraphContext;
  DefaultFieldNullability: false;
  DefaultEdgesNullability: { list: false; items: false };
  DefaultNodeNullability: true;
  Scalars: {
    ID: { Input: string; Output: string };
    DateTime: { Input: Date; Output: Date };
    Sha256: { Input: Digest; Output: string };
    BigInt: { Input: bigint; Output: bigint | number };
    JSON: { Input: Json; Output: unknown };
  };
}

const GLOBAL_ID = /^([A-Z][A-Za-z]*):([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/;
const size = `0 to ${MAX_PAGE}; ${DEFAULT_PAGE} if not said`;

/**
 * The one schema builder. `guard` comes first, so that it stands outside of every other plugin's resolver and sees
 * what would really be handed out.
 */
export const builder = new SchemaBuilder<SchemaShape>({
  plugins: ["guard", PrismaPlugin, RelayPlugin],
  defaultFieldNullability: false,
  prisma: {
    client: (context) => context.db,
    dmmf: getDatamodel(),
    filterConnectionTotalCount: true,
    maxConnectionSize: MAX_PAGE,
    defaultConnectionSize: DEFAULT_PAGE,
  },
  relay: {
    cursorType: "String",
    edgeCursorType: "String",
    encodeGlobalID: (type, id) => Buffer.from(`${type}:${id}`).toString("base64url"),
    decodeGlobalID: (text) => decodeId(text),
    nodeTypeOptions: { description: "Something with an id that stays the same." },
    idFieldOptions: { description: "Opaque and stable; `node(id:)` finds the object again." },
    pageInfoTypeOptions: { description: "Where a page stands in its list." },
    hasNextPageFieldOptions: { description: "There is more after this page." },
    hasPreviousPageFieldOptions: { description: "There is something before this page." },
    startCursorFieldOptions: { description: "Give it as `before` for the page before." },
    endCursorFieldOptions: { description: "Give it as `after` for the next page." },
    firstArgOptions: { description: `How many items from the start (${size}).` },
    lastArgOptions: { description: `How many items from the end (${size}).` },
    afterArgOptions: { description: "Only what comes after this cursor of this list." },
    beforeArgOptions: { description: "Only what comes before this cursor of this list." },
    cursorFieldOptions: { description: "The item's place in the list, for `after` and `before`." },
    nodeFieldOptions: { description: "The item; null where the viewer may not see it.", nullable: true },
    edgesFieldOptions: {
      description: "The items with what belongs to their place in the list.",
      nullable: { list: false, items: false },
    },
    nodesOnConnection: { description: "The items alone; null for those that the viewer may not see." },
    pageInfoFieldOptions: { description: "Where this page stands in its list." },
    defaultConnectionTypeOptions: { description: "One page of a list." },
    defaultEdgeTypeOptions: { description: "An item of a list, with its place." },
    nodeQueryOptions: {
      description: "The object with this id; null where there is none that the viewer may see.",
      args: { id: { description: "An id that this API handed out." } },
      resolve: async (_, { id }, context, __, load) => show(id.typename, await load(id), context),
    },
    nodesQueryOptions: {
      description: "The objects with these ids, in their order, at most 100; null for what may not be seen.",
      args: { ids: { description: "Ids that this API handed out." } },
      resolve: async (_, { ids }, context, __, load) => {
        if (ids.length > MAX_PAGE)
          throw new PothosValidationError(`nodes(ids:): at most ${MAX_PAGE} at once.`);
        const found = await load(ids);
        return ids.map(async ({ typename }, i) => show(typename, await found[i], context));
      },
    },
  },
});

/** `Node` is an interface: the guard around its fields cannot know the type, so they check here. */
function show(type: string, row: unknown, { viewer }: GraphContext): unknown {
  if (row === null || row === undefined || row instanceof Error) return null;
  return isGuarded(type) && maySeeRow(type, viewer, row) ? row : null;
}

/** @throws PothosValidationError unless `text` is an id as `encodeGlobalID` writes it, for an id column of uuids */
export function decodeId(text: string): { typename: string; id: string } {
  const [, typename, id] = GLOBAL_ID.exec(Buffer.from(text, "base64url").toString("utf8")) ?? [];
  if (typename !== undefined && id !== undefined) return { typename, id };
  throw new PothosValidationError(`"${text}" is not an id of this API: take ids from its answers.`);
}
