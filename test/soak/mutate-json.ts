import type { Random } from "./random.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Values that a config does not expect where they come to stand. */
const NASTY: readonly Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  2,
  0.5,
  -0.0001,
  7,
  16,
  1e6,
  2 ** 31,
  2 ** 53,
  -(2 ** 53),
  1e308,
  "",
  "x",
  "all-linear",
  "q_proj",
  ".*",
  "(",
  "(a+)+$",
  "(?<=x)y",
  "a{1,100000}",
  "\\1",
  "[",
  "NaN",
  "__proto__",
  "none",
  "all",
  "lora_only",
  "../../etc/passwd",
  "\u0000\ud800",
  "x".repeat(5000),
  [],
  [[]],
  [null],
  [0],
  [1, 2, 3],
  [-1, 1e9],
  [
    [0, 2],
    [1, 2],
  ],
  [[2, 0]],
  [[0, 1e9]],
  ["q_proj", "v_proj"],
  ["lm_head", "embed_tokens"],
  [{}],
  {},
  { a: 1 },
  { q_proj: 4 },
  { "(": 4 },
  { q_proj: null },
  { constructor: 1, toString: 2 },
  { embed_tokens: [0, 1, 2] },
  { embed_tokens: [-1, 1e12] },
];

/** Text that JSON.parse takes in its own way, or not at all. */
const RAW: readonly string[] = [
  "1e999",
  "-0",
  "{",
  "]",
  '"\\u0000"',
  "[".repeat(150),
  "\ufeff",
  "nul",
  '{"a":1,"a":2}',
];

/** A JSON text with some values, keys or characters changed. */
export function mutateJson(text: string, random: Random, donors: readonly string[] = []): string {
  let value: Json;
  try {
    value = JSON.parse(text);
  } catch {
    return mutateText(text, random);
  }
  const times = 1 + random.below(3);
  for (let i = 0; i < times; i++) value = mutateValue(value, random, donors);
  const out = JSON.stringify(value, null, random.pick([0, 2]));
  return random.chance(0.1) ? mutateText(out, random) : out;
}

function mutateValue(value: Json, random: Random, donors: readonly string[]): Json {
  if (typeof value !== "object" || value === null || random.chance(0.02)) return random.pick(NASTY);
  if (Array.isArray(value)) {
    const at = random.below(Math.max(1, value.length));
    const list = [...value];
    const kind = random.below(3);
    if (kind === 0) list.splice(at, 1);
    else if (kind === 1) list.splice(at, 0, random.pick(NASTY));
    else list[at] = mutateValue(list[at] ?? null, random, donors);
    return list;
  }
  const result: { [key: string]: Json } = { ...value };
  const key = chooseKey(result, random);
  const kind = random.below(10);
  if (kind < 4) set(result, key, random.pick(NASTY));
  else if (kind < 6) set(result, key, mutateValue(result[key] ?? null, random, donors));
  else if (kind === 6) delete result[key];
  else if (kind === 7) set(result, random.pick(["__proto__", "constructor", `${key}x`]), result[key] ?? null);
  else if (donors.length > 0) graft(result, JSON.parse(random.pick(donors)), random);
  return result;
}

/** Mostly a field that says something: of most configs most fields are null, and whoever reads those is soon done. */
function chooseKey(object: { [key: string]: Json }, random: Random): string {
  const keys = Object.keys(object);
  const said = keys.filter((key) => object[key] !== null && object[key] !== false && object[key] !== "");
  if (said.length > 0 && random.chance(0.6)) return random.pick(said);
  return keys.length > 0 && random.chance(0.9) ? random.pick(keys) : `new_${random.below(5)}`;
}

/** Takes some fields of another config: another kind's, with another kind's tensors. */
function graft(into: { [key: string]: Json }, donor: { [key: string]: Json }, random: Random): void {
  for (const [key, value] of Object.entries(donor)) {
    if (random.chance(0.4)) set(into, key, value);
  }
}

/** An own property, also where the key is `__proto__`. */
function set(object: { [key: string]: Json }, key: string, value: Json): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A text with characters inserted, removed or replaced. */
export function mutateText(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  const length = random.chance(0.5) ? 1 : random.below(40);
  const replacement = random.pick([
    "",
    random.pick(RAW),
    String.fromCharCode(random.below(256)),
    text.slice(0, 20),
  ]);
  return random.chance(0.1) ? text.slice(0, at) : text.slice(0, at) + replacement + text.slice(at + length);
}
