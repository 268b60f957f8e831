import { isKind, PickleMachine, type PickleOptions, type PickleValue } from "./pickle-machine.ts";

/** With at least as many a pickle holds more than the 100,000 tensors that no adapter has. */
const MAX_STEPS = 4_000_000;

/**
 * Reads one pickle of protocol 1 to 5 with the opcodes that `torch.save` writes for tensors in dictionaries.
 * @returns its value, and where the next byte after it is
 * @throws UNSAFE_PICKLE naming the global or opcode that it may not use; BAD_FILE where it is cut short or inconsistent
 */
export function unpickle(bytes: Uint8Array, options: PickleOptions): { value: PickleValue; end: number } {
  const machine = new PickleMachine(bytes, options);
  for (let step = 0; step < MAX_STEPS; step++) {
    const code = machine.byte();
    if (code === STOP) return { value: machine.pop(), end: machine.at };
    const run = OPCODES.get(code);
    if (!run) throw machine.unsafe(`uses ${opcodeName(code)}`);
    run(machine);
  }
  throw machine.bad(`it has more than ${MAX_STEPS} steps`);
}

const STOP = 0x2e;
const ORDERED_DICT = "collections.OrderedDict";

function tuple(m: PickleMachine, size: number): void {
  const items: PickleValue[] = [];
  for (let i = 0; i < size; i++) items.unshift(m.pop());
  m.push(m.make({ kind: "tuple", items }));
}

/** A call is written down, never made; only an OrderedDict, which is empty then, becomes a dictionary. */
function reduce(m: PickleMachine): void {
  const args = m.pop();
  const callee = m.pop();
  if (!isKind(callee, "global")) throw m.bad("what is called is not a global");
  if (!isKind(args, "tuple")) throw m.bad("a call has no tuple of arguments");
  if (callee.name !== ORDERED_DICT) {
    m.push(m.make({ kind: "call", name: callee.name, args: args.items }));
  } else {
    if (args.items.length > 0) throw m.bad("an OrderedDict has arguments");
    m.push(m.make({ kind: "dict", items: [], attributes: null }));
  }
}

/** Attributes: a state dictionary carries `_metadata`, which says nothing about its tensors. */
function build(m: PickleMachine): void {
  const state = m.pop();
  const object = m.peek();
  if (!isKind(object, "dict") || !isKind(state, "dict"))
    throw m.unsafe("sets the state of an object (BUILD)");
  if (state.items.length !== 2 || state.items[0] !== "_metadata") {
    throw m.unsafe("sets attributes of a dictionary other than _metadata");
  }
  object.attributes = state;
}

function addTo(m: PickleMachine, kind: "list" | "dict", values: readonly PickleValue[]): void {
  const object = m.peek();
  if (!isKind(object, kind)) throw m.bad(`a ${kind} is missing to add to`);
  if (kind === "dict" && values.length % 2 !== 0) throw m.bad("a key has no value");
  for (const value of values) object.items.push(value);
}

/** The opcodes that are read, by their byte. Those that build objects of classes (INST, OBJ, NEWOBJ, EXT, …) are not. */
const OPCODES: ReadonlyMap<number, (m: PickleMachine) => void> = new Map(
  Object.entries<(m: PickleMachine) => void>({
    // PROTO and FRAME only announce.
    "\x80": (m) => {
      const protocol = m.byte();
      if (protocol > 5) throw m.bad(`it is of protocol ${protocol}`);
    },
    "\x95": (m) => void m.take(8),
    "(": (m) => m.mark(),
    "0": (m) => void m.pop(),
    "1": (m) => void m.popMark(),
    "2": (m) => m.push(m.peek()),
    N: (m) => m.push(null),
    "\x88": (m) => m.push(true),
    "\x89": (m) => m.push(false),
    J: (m) => m.push(m.int32()),
    K: (m) => m.push(m.byte()),
    M: (m) => m.push(m.uint16()),
    "\x8a": (m) => m.push(m.integer(m.byte())),
    "\x8b": (m) => m.push(m.integer(m.uint32())),
    G: (m) => m.push(m.float()),
    X: (m) => m.push(m.text(m.uint32())),
    "\x8c": (m) => m.push(m.text(m.byte())),
    "\x8d": (m) => m.push(m.text(m.uint64())),
    ")": (m) => tuple(m, 0),
    "\x85": (m) => tuple(m, 1),
    "\x86": (m) => tuple(m, 2),
    "\x87": (m) => tuple(m, 3),
    t: (m) => m.push(m.make({ kind: "tuple", items: m.popMark() })),
    "]": (m) => m.push(m.make({ kind: "list", items: [] })),
    l: (m) => m.push(m.make({ kind: "list", items: m.popMark() })),
    a: (m) => addTo(m, "list", [m.pop()]),
    e: (m) => addTo(m, "list", m.popMark()),
    "}": (m) => m.push(m.make({ kind: "dict", items: [], attributes: null })),
    d: (m) => {
      const values = m.popMark();
      m.push(m.make({ kind: "dict", items: [], attributes: null }));
      addTo(m, "dict", values);
    },
    s: (m) => {
      const value = m.pop();
      addTo(m, "dict", [m.pop(), value]);
    },
    u: (m) => addTo(m, "dict", m.popMark()),
    q: (m) => m.remember(m.byte()),
    r: (m) => m.remember(m.uint32()),
    "\x94": (m) => m.memoize(),
    h: (m) => m.recall(m.byte()),
    j: (m) => m.recall(m.uint32()),
    c: (m) => {
      const module = m.line();
      m.global(module, m.line());
    },
    "\x93": (m) => {
      const name = m.pop();
      m.global(m.pop(), name);
    },
    R: reduce,
    b: build,
    Q: (m) => m.push(m.make({ kind: "persistent", id: m.pop() })),
  }).map(([character, run]) => [character.charCodeAt(0), run]),
);

const REFUSED: Readonly<Record<string, string>> = {
  i: "INST",
  o: "OBJ",
  "\x81": "NEWOBJ",
  "\x92": "NEWOBJ_EX",
  "\x82": "EXT1",
  "\x83": "EXT2",
  "\x84": "EXT4",
  P: "PERSID",
  I: "INT",
  L: "LONG",
  S: "STRING",
  V: "UNICODE",
};

function opcodeName(code: number): string {
  const name = REFUSED[String.fromCharCode(code)];
  return `the opcode ${name ?? `0x${code.toString(16).padStart(2, "0")}`}`;
}
