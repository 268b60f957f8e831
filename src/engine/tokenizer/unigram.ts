/** What follows the lowest score of the vocabulary for a character that is in no token; sentencepiece's number. */
const UNKNOWN_PENALTY = 10;

interface Node {
  readonly next: Map<number, Node>;
  id: number;
}

interface Best {
  /** Begin of the last token of the best way to here, in UTF-16 units; −1: no way leads here. */
  begin: number;
  id: number;
  score: number;
}

/**
 * Unigram segmentation: the way through a text whose tokens have the highest sum of scores. Steps, sums and ties are
 * those of the tokenizers library (models/unigram, encode_optimized, float64), which @huggingface/tokenizers breaks
 * differently.
 */
export class Unigram {
  readonly #root: Node = { next: new Map(), id: -1 };
  readonly #scores: readonly number[];
  readonly #unknown: number;
  readonly #unknownScore: number;

  constructor(vocabulary: readonly (readonly [string, number])[], unknown: number) {
    this.#scores = vocabulary.map(([, score]) => asRustReads(score));
    this.#unknown = unknown;
    this.#unknownScore =
      this.#scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    for (const [id, [token]] of vocabulary.entries()) this.#insert(token, id);
  }

  #insert(token: string, id: number): void {
    let node = this.#root;
    for (let i = 0; i < token.length; i++) {
      const unit = token.charCodeAt(i);
      const next = node.next.get(unit) ?? { next: new Map(), id: -1 };
      node.next.set(unit, next);
      node = next;
    }
    node.id = id;
  }

  /** Pieces of a text with their ids; neighbours that are unknown are one piece. */
  encode(text: string): { readonly text: string; readonly id: number }[] {
    const best = this.#search(text);
    const pieces: { text: string; id: number }[] = [];
    for (let end = text.length; end > 0; ) {
      const { begin, id } = best[end]!;
      const last = pieces.at(-1);
      const piece = text.slice(begin, end);
      if (id === this.#unknown && last?.id === this.#unknown) last.text = piece + last.text;
      else pieces.push({ text: piece, id });
      end = begin;
    }
    return pieces.reverse();
  }

  #search(text: string): Best[] {
    const best = Array.from({ length: text.length + 1 }, (): Best => ({ begin: -1, id: 0, score: 0 }));
    for (let begin = 0; begin < text.length; ) {
      const character = text.codePointAt(begin)! > 0xffff ? 2 : 1;
      const before = best[begin]!.score;
      const reach = (end: number, id: number, score: number) => {
        const target = best[end]!;
        if (target.begin === -1 || score > target.score) Object.assign(target, { begin, id, score });
      };
      let single = false;
      let node: Node | undefined = this.#root;
      for (let end = begin; end < text.length; ) {
        node = node.next.get(text.charCodeAt(end++));
        if (!node) break;
        if (node.id === -1) continue;
        reach(end, node.id, this.#scores[node.id]! + before);
        if (end - begin === character) single = true;
      }
      if (!single) reach(begin + character, this.#unknown, this.#unknownScore + before);
      begin += character;
    }
    return best;
  }
}

/**
 * The number that Rust's serde_json makes of a decimal, which may be one unit in the last place off: digits as a whole
 * number, divided by a power of ten. Ways of equal score (spaces in another order) are told apart by nothing else.
 */
function asRustReads(score: number): number {
  if (Number.isInteger(score)) return score;
  const [, sign, whole, fraction = "", power] = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(
    score.toExponential(),
  )!;
  const exponent = Number(power) - fraction.length;
  const digits = Number(whole! + fraction);
  const size = exponent < 0 ? digits / Number(`1e${-exponent}`) : digits * Number(`1e${exponent}`);
  return sign === "-" ? -size : size;
}
