import SchemaBuilder, {
  BasePlugin,
  type PothosOutputFieldConfig,
  type PothosOutputFieldType,
  type SchemaTypes,
} from "@pothos/core";
import type { GraphQLFieldResolver } from "graphql";
import type { GraphContext } from "./context.ts";
import { badUserInput } from "./errors.ts";
import { MAX_PAGE } from "./limits.ts";
import { isGuarded, maySeeRow } from "./visible.ts";

declare global {
  export namespace PothosSchemaTypes {
    export interface Plugins<Types extends SchemaTypes> {
      guard: GuardPlugin<Types>;
    }
  }
}

type Resolve = GraphQLFieldResolver<unknown, object, object>;

/**
 * Stands around every resolver. A field that hands out an object of a guarded type hands out null where the viewer
 * may not see it, however the object was reached: to-one relations take no filter, and a forgotten `where` must not
 * show anything. Pages and cursors are checked here too, so that no list can forget it.
 */
export class GuardPlugin<Types extends SchemaTypes> extends BasePlugin<Types> {
  override onOutputFieldConfig(field: PothosOutputFieldConfig<Types>): PothosOutputFieldConfig<Types> {
    // Pothos adds this field to Prisma connections without a way to describe it.
    if (field.name === "totalCount" && !field.description) {
      return { ...field, description: "How many items the whole list has." };
    }
    if (!("first" in field.args)) return field;
    const open = (args: Record<string, unknown>) => openCursors(`${field.parentType}.${field.name}`, args);
    return { ...field, argMappers: [...field.argMappers, open] };
  }

  override wrapResolve(resolve: Resolve, field: PothosOutputFieldConfig<Types>): Resolve {
    return guardVisibility(guardPage(resolve, field), field, this.typeName(field.type));
  }

  private typeName(type: PothosOutputFieldType<Types>): string | null {
    const inner = type.kind === "List" ? type.type : type;
    if (inner.kind !== "Object") return null;
    return this.builder.configStore.getTypeConfig(inner.ref).name;
  }
}

function guardVisibility<Types extends SchemaTypes>(
  resolve: Resolve,
  field: PothosOutputFieldConfig<Types>,
  name: string | null,
): Resolve {
  if (name === null || !isGuarded(name)) return resolve;
  const list = field.type.kind === "List";
  if (!list && !field.type.nullable) {
    throw new Error(
      `${field.parentType}.${field.name} hands out ${name}, which may be hidden: make it nullable`,
    );
  }
  const show = (row: unknown, context: unknown) =>
    row !== null && row !== undefined && maySeeRow(name, (context as GraphContext).viewer, row) ? row : null;
  return async (parent, args, context, info) => {
    const found = await resolve(parent, args, context, info);
    if (!list) return show(found, context);
    if (found === null || found === undefined) return null;
    return await Promise.all([...(found as Iterable<unknown>)].map(async (row) => show(await row, context)));
  };
}

/** Refuses pages beyond the limit, and cursors that another list made. */
function guardPage<Types extends SchemaTypes>(
  resolve: Resolve,
  field: PothosOutputFieldConfig<Types>,
): Resolve {
  if (!("first" in field.args)) return resolve;
  const list = `${field.parentType}.${field.name}`;
  return async (parent, args, context, info) => {
    const page = args as { first?: number | null; last?: number | null };
    for (const name of ["first", "last"] as const) {
      const size = page[name];
      if (size === null || size === undefined) continue;
      if (size < 0 || size > MAX_PAGE) {
        throw badUserInput(
          `${list}(${name}: ${size}): a page has 0 to ${MAX_PAGE} items; follow pageInfo for more.`,
        );
      }
    }
    return sealCursors(list, await resolve(parent, args, context, info));
  };
}

interface Page {
  readonly edges?: readonly ({ readonly cursor: string } | null)[] | null;
  readonly pageInfo: { readonly startCursor?: string | null; readonly endCursor?: string | null };
}

/**
 * Takes the seals off before anything sees the arguments: Pothos reads them in the resolver and, to load a relation
 * with its parent, long before it.
 */
function openCursors(list: string, args: Record<string, unknown>): Record<string, unknown> {
  const opened: Record<string, unknown> = { ...args };
  for (const name of ["after", "before"]) {
    const cursor = args[name];
    if (typeof cursor === "string") opened[name] = openCursor(list, cursor, name);
  }
  return opened;
}

/** A page whose cursors say which list they belong to. */
function sealCursors(list: string, page: unknown): unknown {
  if (page === null || typeof page !== "object" || !("pageInfo" in page)) return page;
  const { edges, pageInfo } = page as Page;
  const seal = (cursor: string | null | undefined) =>
    cursor === null || cursor === undefined ? null : sealCursor(list, cursor);
  // Kept as the same object: Pothos hangs getters and a lazy total count on it.
  return Object.defineProperties(page, {
    edges: {
      value: edges?.map(
        (edge) => edge && Object.defineProperty(edge, "cursor", { value: seal(edge.cursor) }),
      ),
    },
    pageInfo: {
      value: { ...pageInfo, startCursor: seal(pageInfo.startCursor), endCursor: seal(pageInfo.endCursor) },
    },
  });
}

/** A cursor bound to the list that made it. */
export function sealCursor(list: string, cursor: string): string {
  return Buffer.from(`${list}\n${cursor}`).toString("base64url");
}

/** @throws BAD_USER_INPUT for a cursor that `list` did not make */
export function openCursor(list: string, cursor: string, argument = "after"): string {
  const [from, inner] = Buffer.from(cursor, "base64url").toString("utf8").split("\n");
  if (from === list && inner !== undefined) return inner;
  throw badUserInput(
    `${list}(${argument}:): this cursor was not made by this list. Take it from its pageInfo or edges.`,
  );
}

SchemaBuilder.registerPlugin("guard", GuardPlugin);
