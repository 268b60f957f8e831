import { badUserInput } from "./errors.ts";
import { DEFAULT_PAGE } from "./limits.ts";

export interface ForwardPage<Item> {
  readonly items: readonly Item[];
  readonly hasNextPage: boolean;
}

/**
 * A page of a list that is already in memory and has a stable key for each item. `after` is the key of the last item
 * seen; the guard has taken its seal off.
 */
export function pageAfter<Item>(
  all: readonly Item[],
  args: { readonly first?: number | null | undefined; readonly after?: string | null | undefined },
  keyOf: (item: Item) => string,
): ForwardPage<Item> {
  const first = args.first ?? DEFAULT_PAGE;
  let from = 0;
  if (args.after !== null && args.after !== undefined) {
    from = all.findIndex((item) => keyOf(item) === args.after) + 1;
    if (from === 0)
      throw badUserInput("after: what this cursor pointed at is not in the list any more. Start over.");
  }
  return { items: all.slice(from, from + first), hasNextPage: all.length > from + first };
}

export function pageInfo(keys: readonly string[], more: { hasNextPage: boolean; hasPreviousPage: boolean }) {
  return { ...more, startCursor: keys[0] ?? null, endCursor: keys.at(-1) ?? null };
}
