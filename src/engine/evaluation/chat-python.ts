/*
 * Where @huggingface/jinja and Jinja2 write different things without an error, the parsed template is changed: stripping
 * (it ignores which characters), capitals, and what a boolean or `none` looks like. What it would write as JavaScript
 * does (lists, objects) or compares by identity is refused.
 */

/** A node of a parsed template, or anything in one. */
interface Node {
  readonly type?: string;
  [field: string]: unknown;
}

const STRIPS = { strip: "both", lstrip: "left", rstrip: "right", trim: "both" } as const;
type Side = (typeof STRIPS)[keyof typeof STRIPS];
const METHODS = new Set(["strip", "lstrip", "rstrip", "capitalize", "title"]);
const FILTERS = new Set(["trim", "capitalize", "title"]);
const HELPER = "__python_";

/** What the changed template calls. */
export function pythonHelpers(template: string): Record<string, (...values: unknown[]) => unknown> {
  const helpers: Record<string, (...values: unknown[]) => unknown> = {
    [`${HELPER}capitalize`]: (value) => {
      const [first = "", ...rest] = text(value, "capitalize");
      return first.toUpperCase() + rest.join("").toLowerCase();
    },
    [`${HELPER}title`]: (value) =>
      text(value, "title").replace(/\p{L}+/gu, (word) => {
        const [first = "", ...rest] = word;
        return first.toUpperCase() + rest.join("").toLowerCase();
      }),
    [`${HELPER}output`]: (value, isNone) => (isNone === true ? "None" : written(value, template)),
  };
  for (const [name, side] of Object.entries(STRIPS)) {
    helpers[HELPER + name] = (value, characters) => stripped(text(value, name), side, characters);
  }
  return helpers;
}

function text(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  throw new Error(`it uses ${name} on something that is no text`);
}

/** Python's `str.isspace`: white space, and the separators of files, groups, records and units. */
const isSpace = (letter: string) =>
  /\p{White_Space}/u.test(letter) || (letter >= "\u001c" && letter <= "\u001f");

function stripped(value: string, side: Side, characters: unknown): string {
  const wanted = typeof characters === "string" ? new Set(characters) : null;
  const drop = (letter: string) => (wanted ? wanted.has(letter) : isSpace(letter));
  const letters = [...value];
  let begin = 0;
  let end = letters.length;
  while (side !== "right" && begin < end && drop(letters[begin]!)) begin++;
  while (side !== "left" && end > begin && drop(letters[end - 1]!)) end--;
  return letters.slice(begin, end).join("");
}

function written(value: unknown, template: string): unknown {
  if (value === undefined || value === null) return "";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" && Number.isInteger(value) && /\d\.\d|\s\/\s|\bfloat\b/.test(template)) {
    throw new Error("it writes a number that may be 2 or 2.0");
  }
  if (typeof value === "string" || typeof value === "number") return value;
  throw new Error("it writes a list or an object, which looks different in Python");
}

/** Changes a parsed template in place. @throws where something would be silently different */
export function asPython<Program extends object>(program: Program): Program {
  visit(program as Node);
  return program;
}

function visit(node: Node): void {
  for (const child of childrenOf(node)) visit(child);
  for (const field of ["body", "alternate", "defaultBlock"]) {
    const statements = node[field];
    if (Array.isArray(statements))
      node[field] = statements.map((one: Node) => (isOutput(one) ? output(one) : one));
  }
  if (node.type === "CallExpression") changeMethod(node);
  if (node.type === "FilterExpression") changeFilter(node);
  if (node.type === "BinaryExpression") changeOperator(node);
}

function* childrenOf(node: Node): Iterable<Node> {
  for (const value of Object.values(node)) {
    const values = value instanceof Map ? [...value].flat() : Array.isArray(value) ? value : [value];
    for (const child of values) if (typeof child === "object" && child !== null) yield child as Node;
  }
}

/** Expressions whose value may be of any kind; sums and texts are written alike. */
const OF_ANY_KIND = new Set([
  "Identifier",
  "MemberExpression",
  "CallExpression",
  "TestExpression",
  "UnaryExpression",
  "Ternary",
  "SelectExpression",
  "FilterExpression",
  "ArrayLiteral",
  "TupleLiteral",
  "ObjectLiteral",
]);
const ARITHMETIC = new Set(["+", "-", "*", "/", "//", "%", "**", "~"]);

function isOutput(node: Node): boolean {
  if (node.type === "BinaryExpression") return !ARITHMETIC.has(operatorOf(node));
  return OF_ANY_KIND.has(node.type ?? "");
}

/** Helpers see `none` as undefined, which writes nothing; calls are not made twice to ask. */
function output(node: Node): Node {
  if (node.type === "CallExpression") return call("output", [node]);
  const isNone = {
    type: "TestExpression",
    operand: node,
    negate: false,
    test: { type: "Identifier", value: "none" },
  };
  return call("output", [node, isNone]);
}

const operatorOf = (node: Node) => (node.operator as { readonly value: string }).value;

function call(name: string, args: readonly unknown[]): Node {
  return { type: "CallExpression", callee: { type: "Identifier", value: HELPER + name }, args: [...args] };
}

/** `text.strip(characters)` → `__python_strip(text, characters)`. */
function changeMethod(node: Node): void {
  const callee = node.callee as Node;
  const property = callee.property as Node | undefined;
  if (callee.type !== "MemberExpression" || callee.computed || !METHODS.has(String(property?.value))) return;
  const args = node.args as unknown[];
  Object.assign(node, call(String(property!.value), [callee.object, ...args]));
}

/** `text | trim` → `__python_trim(text)`. */
function changeFilter(node: Node): void {
  const filter = node.filter as Node;
  const [name, args] =
    filter.type === "CallExpression"
      ? [(filter.callee as Node).value, filter.args as unknown[]]
      : [filter.value, []];
  if (name === "string") Object.assign(node, output(node.operand as Node));
  if (!FILTERS.has(String(name))) return;
  Object.assign(node, call(String(name), [node.operand, ...args]));
}

const LITERALS = new Set(["ArrayLiteral", "TupleLiteral", "ObjectLiteral"]);

/** `a ~ b` joins what both would write. */
function changeOperator(node: Node): void {
  const sides = { left: node.left as Node, right: node.right as Node };
  const operator = operatorOf(node);
  for (const [name, side] of Object.entries(sides)) {
    if (operator === "~" && isOutput(side)) node[name] = output(side);
    const compares = operator === "==" || operator === "!=";
    if (compares && LITERALS.has(side.type ?? "")) throw new Error("it compares with a list or an object");
  }
}
