/** A text, or a window of one, as it goes through the model. */
export interface TokenSequence {
  readonly ids: Int32Array;
  /** Index of the first token whose prediction counts; at least 1, as the first token of a text is context only. */
  readonly first: number;
  /** Windows of one text have the same number, and stand one after another. */
  readonly document: number;
}

/** Cuts a list of sequences into chunks of at most so many tokens; a longer one is a chunk of its own. */
export function chunksOf(sequences: readonly TokenSequence[], tokens: number): TokenSequence[][] {
  const chunks: TokenSequence[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const sequence of sequences) {
    if (size + sequence.ids.length > tokens) {
      chunks.push([]);
      size = 0;
    }
    chunks.at(-1)!.push(sequence);
    size += sequence.ids.length;
  }
  return chunks;
}

/** Rows of a chunk whose next token is a prediction that counts, that token, and how many each sequence has. */
export function predictionsOf(chunk: readonly TokenSequence[]): {
  rows: Int32Array;
  labels: Int32Array;
  counts: number[];
} {
  const rows: number[] = [];
  const labels: number[] = [];
  const counts: number[] = [];
  let begin = 0;
  for (const { ids, first } of chunk) {
    for (let i = first; i < ids.length; i++) {
      rows.push(begin + i - 1);
      labels.push(ids[i]!);
    }
    counts.push(Math.max(0, ids.length - first));
    begin += ids.length;
  }
  return { rows: Int32Array.from(rows), labels: Int32Array.from(labels), counts };
}

/** First prediction of each document from the predictions of its sequences; see `Measures.starts`. */
export function documentStarts(documents: readonly number[], counts: readonly number[]): number[] {
  const starts: number[] = [];
  let at = 0;
  documents.forEach((document, i) => {
    if (i === 0 || documents[i - 1] !== document) starts.push(at);
    at += counts[i]!;
  });
  return [...starts, at];
}
