import {
  type ASTVisitor,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type SelectionSetNode,
  type ValidationContext,
  type ValidationRule,
} from "graphql";

/** The most items a list field hands out at once; asking for more is an error, not a silent cut. */
export const MAX_PAGE = 100;
/** What `first` is when nothing is asked. */
export const DEFAULT_PAGE = 20;

export interface Limits {
  /** Fields below fields; the introspection of tools needs none of it, it is exempt. */
  readonly depth: number;
  /** Aliases in one document: the same field a thousand times is a thousand times the work. */
  readonly aliases: number;
  /** Fields on Query or Mutation in one document. */
  readonly rootFields: number;
  /** Lexical tokens, counted while parsing, before anything is allocated for them. */
  readonly tokens: number;
  /** Objects the document could make the server load: the product of nested page sizes, summed. */
  readonly cost: number;
}

/** Room for the console's largest page several times over; far below what hurts one server. */
export const LIMITS: Limits = { depth: 15, aliases: 30, rootFields: 20, tokens: 4_000, cost: 50_000 };

/** Validation rules that refuse a document before a resolver runs. */
export function limitRules(limits: Limits): ValidationRule[] {
  return [(context) => checkDocument(context, limits)];
}

interface Measure {
  readonly depth: number;
  readonly aliases: number;
  readonly cost: number;
}

const NOTHING: Measure = { depth: 0, aliases: 0, cost: 0 };

function checkDocument(context: ValidationContext, limits: Limits): ASTVisitor {
  const measured = new Map<string, Measure>();
  const over = (what: string, found: number, most: number, fix: string) =>
    context.reportError(
      new GraphQLError(`The document has ${what} ${found}; the most is ${most}. ${fix}`, {
        extensions: { code: "LIMIT_EXCEEDED", limit: what, most },
      }),
    );
  return {
    OperationDefinition(node) {
      const roots = countRoots(context, node.selectionSet, new Set());
      const measure = measureSet({ context, measured, open: new Set() }, node.selectionSet);
      if (roots > limits.rootFields) over("root fields", roots, limits.rootFields, "Send several requests.");
      if (measure.depth > limits.depth)
        over("depth", measure.depth, limits.depth, "Ask by node(id:) instead.");
      if (measure.aliases > limits.aliases) {
        over("aliases", measure.aliases, limits.aliases, "Use nodes(ids:) or send several requests.");
      }
      if (measure.cost > limits.cost) over("cost", measure.cost, limits.cost, "Ask for smaller pages.");
    },
  };
}

function countRoots(context: ValidationContext, set: SelectionSetNode, open: Set<string>): number {
  let count = 0;
  for (const selection of set.selections) {
    if (selection.kind === Kind.FIELD) count += 1;
    else if (selection.kind === Kind.INLINE_FRAGMENT)
      count += countRoots(context, selection.selectionSet, open);
    else {
      const fragment = context.getFragment(selection.name.value);
      // A cycle is an error of its own, found by a standard rule.
      if (!fragment || open.has(fragment.name.value)) continue;
      count += countRoots(context, fragment.selectionSet, new Set([...open, fragment.name.value]));
    }
  }
  return count;
}

interface Walk {
  readonly context: ValidationContext;
  /** Fragments measured before: a fragment spread a thousand times is walked once. */
  readonly measured: Map<string, Measure>;
  readonly open: ReadonlySet<string>;
}

function measureSet(walk: Walk, set: SelectionSetNode): Measure {
  let { depth, aliases, cost } = NOTHING;
  for (const selection of set.selections) {
    const found =
      selection.kind === Kind.FIELD
        ? measureField(walk, selection)
        : selection.kind === Kind.INLINE_FRAGMENT
          ? measureSet(walk, selection.selectionSet)
          : measureFragment(walk, walk.context.getFragment(selection.name.value));
    depth = Math.max(depth, found.depth);
    aliases += found.aliases;
    cost += found.cost;
  }
  return { depth, aliases, cost };
}

function measureFragment(walk: Walk, fragment: FragmentDefinitionNode | null | undefined): Measure {
  if (!fragment) return NOTHING;
  const name = fragment.name.value;
  if (walk.open.has(name)) return NOTHING;
  const known = walk.measured.get(name);
  if (known) return known;
  const found = measureSet({ ...walk, open: new Set([...walk.open, name]) }, fragment.selectionSet);
  walk.measured.set(name, found);
  return found;
}

function measureField(walk: Walk, field: FieldNode): Measure {
  const alias = field.alias ? 1 : 0;
  if (field.name.value.startsWith("__")) return { depth: 0, aliases: alias, cost: 0 };
  if (!field.selectionSet) return { depth: 1, aliases: alias, cost: 0 };
  const below = measureSet(walk, field.selectionSet);
  return {
    depth: below.depth + 1,
    aliases: below.aliases + alias,
    cost: (pageSize(walk, field, field.selectionSet) ?? 1) * (1 + below.cost),
  };
}

/** The page a connection field asks for; null for other fields. A variable counts as the largest page. */
function pageSize(walk: Walk, field: FieldNode, set: SelectionSetNode): number | null {
  const argument = field.arguments?.find(({ name }) => name.value === "first" || name.value === "last");
  if (argument?.value.kind === Kind.INT) return Math.min(MAX_PAGE, Math.max(0, Number(argument.value.value)));
  if (argument?.value.kind === Kind.VARIABLE) return MAX_PAGE;
  return argument || selectsItems(walk, set) ? DEFAULT_PAGE : null;
}

/** Whether a selection, fragments included, reaches the items of a connection. */
function selectsItems(walk: Walk, set: SelectionSetNode): boolean {
  return set.selections.some((selection) => {
    if (selection.kind === Kind.FIELD)
      return selection.name.value === "edges" || selection.name.value === "nodes";
    if (selection.kind === Kind.INLINE_FRAGMENT) return selectsItems(walk, selection.selectionSet);
    const name = selection.name.value;
    const fragment = walk.open.has(name) ? undefined : walk.context.getFragment(name);
    return fragment
      ? selectsItems({ ...walk, open: new Set([...walk.open, name]) }, fragment.selectionSet)
      : false;
  });
}
