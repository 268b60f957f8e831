import { isJsonObject, type Json, type JsonObject } from "./json.ts";

/** One value to put into a JSON document; the field is added at the end of its object where it is not there yet. */
export interface JsonEdit {
  /** Names from the outermost object inwards; all but the last must be there. */
  readonly path: readonly string[];
  readonly value: Json;
}

/**
 * Changes single values of a JSON document and keeps every other byte: parsed and printed again, Python's `3.0` would
 * come back as `3`, which some classes of transformers refuse for a float.
 * @param text of a document that parses, an object
 */
export function editJson(text: string, edits: readonly JsonEdit[]): string {
  return edits.reduce(editOne, text);
}

/** The same changes of a document that is parsed already. */
export function editedObject(object: JsonObject, edits: readonly JsonEdit[]): JsonObject {
  return edits.reduce((whole, { path, value }) => withField(whole, path, value), object);
}

function withField(object: JsonObject, path: readonly string[], value: Json): JsonObject {
  const [name, ...rest] = path as [string, ...string[]];
  if (rest.length === 0) return { ...object, [name]: value };
  const inner = object[name];
  if (!isJsonObject(inner)) throw new Error(`no object ${name} on the way to ${rest.join(".")}`);
  return { ...object, [name]: withField(inner, rest, value) };
}

function editOne(text: string, { path, value }: JsonEdit): string {
  let object = readObject(text, skipSpace(text, 0));
  for (const name of path.slice(0, -1)) object = readObject(text, memberOf(object, name, path).valueStart);
  const name = path.at(-1)!;
  // Of two members of the same name the last one counts.
  const member = object.members.findLast(({ key }) => key === name);
  const last = object.members.at(-1);
  const space = last?.before ?? "";
  const printed = print(value, space);
  if (member) return text.slice(0, member.valueStart) + printed + text.slice(member.valueEnd);
  const at = last?.valueEnd ?? object.start + 1;
  const separator = last ? text.slice(last.keyEnd, last.valueStart) : ": ";
  return `${text.slice(0, at)}${last ? "," : ""}${space}${JSON.stringify(name)}${separator}${printed}${text.slice(at)}`;
}

/** Values of several lines are indented as the members beside them. */
function print(value: Json, space: string): string {
  const indent = /\n([ \t]*)$/.exec(space)?.[1];
  if (indent === undefined) return JSON.stringify(value);
  return JSON.stringify(value, null, 2).replaceAll("\n", `\n${indent}`);
}

interface Member {
  readonly key: string;
  /** White space between the comma or brace before, and the name. */
  readonly before: string;
  readonly keyEnd: number;
  readonly valueStart: number;
  readonly valueEnd: number;
}

interface ObjectSpan {
  readonly start: number;
  readonly members: readonly Member[];
}

function memberOf({ members }: ObjectSpan, name: string, path: readonly string[]): Member {
  const member = members.findLast(({ key }) => key === name);
  if (!member) throw new Error(`no field ${name} on the way to ${path.join(".")}`);
  return member;
}

function readObject(text: string, start: number): ObjectSpan {
  if (text[start] !== "{") throw new Error(`no object at character ${start}`);
  const members: Member[] = [];
  let at = start + 1;
  while (true) {
    const keyStart = skipSpace(text, at);
    if (text[keyStart] !== '"') return { start, members };
    const keyEnd = skipString(text, keyStart);
    const colon = skipSpace(text, keyEnd);
    const valueStart = skipSpace(text, colon + 1);
    const valueEnd = skipValue(text, valueStart);
    const key = JSON.parse(text.slice(keyStart, keyEnd)) as string;
    members.push({ key, before: text.slice(at, keyStart), keyEnd, valueStart, valueEnd });
    at = skipSpace(text, valueEnd) + 1;
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (" \t\n\r".includes(text[at] ?? "x")) at++;
  return at;
}

function skipString(text: string, from: number): number {
  let at = from + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

function skipValue(text: string, from: number): number {
  let depth = 0;
  let at = from;
  do {
    const c = text[at]!;
    if (c === '"') at = skipString(text, at);
    else if (c === "{" || c === "[") {
      depth++;
      at++;
    } else if (c === "}" || c === "]") {
      depth--;
      at++;
    } else if (depth > 0) at++;
    else while (at < text.length && !",}] \t\n\r".includes(text[at]!)) at++;
  } while (depth > 0);
  return at;
}
