import { AppError } from "./errors.ts";

/**
 * What a pickle says, as plain values. Nothing is imported, called or built: a global is its name, a call is the name
 * and the arguments, a persistent id is what stands for it.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | { readonly kind: "list"; readonly items: PickleValue[] }
  | { readonly kind: "tuple"; readonly items: readonly PickleValue[] }
  /** Keys and values in turn; `attributes` are what BUILD set on an OrderedDict. */
  | { readonly kind: "dict"; readonly items: PickleValue[]; attributes: PickleValue }
  | { readonly kind: "global"; readonly name: string }
  | { readonly kind: "call"; readonly name: string; readonly args: readonly PickleValue[] }
  | { readonly kind: "persistent"; readonly id: PickleValue };

/** Whether a value is an object of a kind. */
export function isKind<K extends Kinded["kind"]>(
  value: PickleValue | undefined,
  kind: K,
): value is Extract<Kinded, { kind: K }> {
  return typeof value === "object" && value !== null && value.kind === kind;
}

type Kinded = Exclude<PickleValue, null | boolean | number | bigint | string>;

/** Longer pickles, or ones with more steps, hold more than the 100,000 tensors that no adapter has. */
export const MAX_PICKLE_BYTES = 32_000_000;
const MAX_CONTAINERS = 600_000;
const MAX_MEMO = 1_000_000;
const MAX_STACK = 1_000_000;
/** torch's magic number takes 10 bytes; a longer integer is there to cost time. */
const MAX_INTEGER_BYTES = 16;

export interface PickleOptions {
  /** The file, for messages. */
  readonly name: string;
  /** `module.name` of everything the pickle may name. */
  readonly globals: ReadonlySet<string>;
  /** Where it starts; 0 where absent. */
  readonly start?: number;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Of a module or of something in it. */
const MAX_NAME = 1000;
const MAX_SHOWN = 200;

/** The stack, memo and position of a pickle that is being read, with limits on what they may take. */
export class PickleMachine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #options: PickleOptions;
  at: number;
  readonly stack: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #containers = 0;

  constructor(bytes: Uint8Array, options: PickleOptions) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#options = options;
    this.at = options.start ?? 0;
  }

  bad(why: string): AppError {
    return new AppError(
      "BAD_FILE",
      `${this.#options.name} is not a valid pickle: at byte ${this.at}, ${why}. Download it again, or save the adapter again as safetensors.`,
      { details: { file: this.#options.name } },
    );
  }

  unsafe(what: string): AppError {
    return new AppError(
      "UNSAFE_PICKLE",
      `${this.#options.name} is a pickle that ${what}, which could run code where it is loaded. Only tensors in dictionaries are read here, and nothing was run. Ask its author for adapter_model.safetensors.`,
      { details: { file: this.#options.name } },
    );
  }

  /** Moves on by some bytes and returns where they start. */
  take(count: number): number {
    if (count > this.#bytes.byteLength - this.at) throw this.bad(`${count} bytes should follow, but it ends`);
    const from = this.at;
    this.at += count;
    return from;
  }

  byte(): number {
    return this.#bytes[this.take(1)]!;
  }

  uint16(): number {
    return this.#view.getUint16(this.take(2), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.take(4), true);
  }

  uint64(): number {
    const value = this.#view.getBigUint64(this.take(8), true);
    if (value > BigInt(MAX_PICKLE_BYTES)) throw this.bad(`a length of ${value} is claimed`);
    return Number(value);
  }

  int32(): number {
    return this.#view.getInt32(this.take(4), true);
  }

  float(): number {
    return this.#view.getFloat64(this.take(8), false);
  }

  /** A little-endian integer in two's complement. */
  integer(length: number): number | bigint {
    if (length > MAX_INTEGER_BYTES) throw this.bad(`an integer of ${length} bytes is claimed`);
    const from = this.take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[from + i]!);
    if (length > 0 && this.#bytes[from + length - 1]! >= 0x80) value -= 1n << BigInt(8 * length);
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  }

  text(length: number): string {
    const from = this.take(length);
    try {
      return UTF8.decode(this.#bytes.subarray(from, from + length));
    } catch {
      throw this.bad("a text is not UTF-8");
    }
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > MAX_NAME) throw this.bad("a name does not end");
    const text = this.text(end - this.at);
    this.take(1);
    return text;
  }

  push(value: PickleValue): void {
    if (this.stack.length >= MAX_STACK) throw this.bad(`more than ${MAX_STACK} values are waiting`);
    this.stack.push(value);
  }

  /** A list, tuple or dictionary: each takes memory, so their number is limited. */
  make<T extends PickleValue>(value: T): T {
    if (++this.#containers > MAX_CONTAINERS) throw this.bad(`it makes more than ${MAX_CONTAINERS} objects`);
    return value;
  }

  pop(): PickleValue {
    if (this.stack.length <= (this.#marks.at(-1) ?? 0)) throw this.bad("a value is missing");
    return this.stack.pop()!;
  }

  peek(): PickleValue {
    const value = this.pop();
    this.stack.push(value);
    return value;
  }

  mark(): void {
    if (this.#marks.length >= MAX_STACK) throw this.bad(`more than ${MAX_STACK} values are waiting`);
    this.#marks.push(this.stack.length);
  }

  /** Everything since the last mark, which goes with it. */
  popMark(): PickleValue[] {
    const from = this.#marks.pop();
    if (from === undefined) throw this.bad("a mark is missing");
    return this.stack.splice(from);
  }

  remember(index: number): void {
    this.#memo.set(index, this.peek());
    if (this.#memo.size > MAX_MEMO) throw this.bad(`it remembers more than ${MAX_MEMO} values`);
  }

  memoize(): void {
    this.remember(this.#memo.size);
  }

  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.bad(`value ${index} is recalled, but was never remembered`);
    this.push(value);
  }

  global(module: PickleValue, name: PickleValue): void {
    if (typeof module !== "string" || typeof name !== "string") throw this.bad("a global has no name");
    const full = `${module}.${name}`;
    if (!this.#options.globals.has(full)) throw this.unsafe(`names ${full.slice(0, MAX_SHOWN)}`);
    this.push(this.make({ kind: "global", name: full }));
  }
}
