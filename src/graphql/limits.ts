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

/** Fields that plan, or may plan, a merge: each loads the headers of two whole models and works on every tensor. */
const PLANS: ReadonlySet<string> = new Set(["compatibility", "mergePlan", "mergeStart", "evaluationStart"]);
const PLAN_COST = 1_000;

/** Validation rules that refuse a document before a resolver runs. */
export function limitRules(limits: Limits): ValidationRule[] {
  return [(context) => checkDocument(context, limits)];
}

/** Of a selection, fragments included. */
interface Measure {
  /** Its own fields. */
  readonly fields: number;
  readonly depth: number;
  readonly aliases: number;
  readonly cost: number;
  /** Whether it reaches the items of a connection. */
  readonly items: boolean;
}

const NOTHING: Measure = { fields: 0, depth: 0, aliases: 0, cost: 0, items: false };

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
      const measure = measureSet({ context, measured, open: new Set() }, node.selectionSet);
      const { fields, depth, aliases, cost } = measure;
      if (fields > limits.rootFields)
        over("root fields", fields, limits.rootFields, "Send several requests.");
      if (depth > limits.depth) over("depth", depth, limits.depth, "Ask by node(id:) instead.");
      if (aliases > limits.aliases) {
        over("aliases", aliases, limits.aliases, "Use nodes(ids:) or send several requests.");
      }
      if (cost > limits.cost) over("cost", cost, limits.cost, "Ask for smaller pages.");
    },
  };
}

interface Walk {
  readonly context: ValidationContext;
  /** Each fragment is measured once: twenty that spread the next one twice would be a million walks. */
  readonly measured: Map<string, Measure>;
  readonly open: ReadonlySet<string>;
}

function measureSet(walk: Walk, set: SelectionSetNode): Measure {
  let { fields, depth, aliases, cost, items } = NOTHING;
  for (const selection of set.selections) {
    const found =
      selection.kind === Kind.FIELD
        ? measureField(walk, selection)
        : selection.kind === Kind.INLINE_FRAGMENT
          ? measureSet(walk, selection.selectionSet)
          : measureFragment(walk, walk.context.getFragment(selection.name.value));
    fields += found.fields;
    depth = Math.max(depth, found.depth);
    aliases += found.aliases;
    cost += found.cost;
    items ||= found.items;
  }
  return { fields, depth, aliases, cost, items };
}

function measureFragment(walk: Walk, fragment: FragmentDefinitionNode | null | undefined): Measure {
  if (!fragment) return NOTHING;
  const name = fragment.name.value;
  // A cycle is an error of its own, found by a standard rule.
  if (walk.open.has(name)) return NOTHING;
  const known = walk.measured.get(name);
  if (known) return known;
  const found = measureSet({ ...walk, open: new Set([...walk.open, name]) }, fragment.selectionSet);
  walk.measured.set(name, found);
  return found;
}

function measureField(walk: Walk, field: FieldNode): Measure {
  const name = field.name.value;
  const own = { fields: 1, aliases: field.alias ? 1 : 0, items: name === "edges" || name === "nodes" };
  if (name.startsWith("__")) return { ...own, depth: 0, cost: 0 };
  if (!field.selectionSet) return { ...own, depth: 1, cost: 0 };
  const below = measureSet(walk, field.selectionSet);
  return {
    ...own,
    depth: below.depth + 1,
    aliases: own.aliases + below.aliases,
    cost: (pageSize(field, below.items) ?? 1) * ((PLANS.has(name) ? PLAN_COST : 1) + below.cost),
  };
}

/** How many items a connection field or a list of ids asks for; null for other fields. A variable counts as the most. */
function pageSize(field: FieldNode, hasItems: boolean): number | null {
  const ids = field.arguments?.find((argument) => argument.name.value === "ids");
  if (ids) return ids.value.kind === Kind.LIST ? ids.value.values.length : MAX_PAGE;
  const argument = field.arguments?.find(({ name }) => name.value === "first" || name.value === "last");
  if (argument?.value.kind === Kind.INT) return Math.min(MAX_PAGE, Math.max(0, Number(argument.value.value)));
  if (argument?.value.kind === Kind.VARIABLE) return MAX_PAGE;
  return argument || hasItems ? DEFAULT_PAGE : null;
}
