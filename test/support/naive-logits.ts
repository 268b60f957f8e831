import { join } from "node:path";
import type { Measures } from "../../src/core/evaluation/measures.ts";
import { readTensors } from "./tensor-files.ts";

/** Logits of one text by both sides, row by row, and the tokens of the text. */
export interface SavedText {
  readonly ids: readonly number[];
  readonly reference: readonly (readonly number[])[];
  readonly candidate: readonly (readonly number[])[];
}

const DEMO = join(import.meta.dirname, "..", "fixtures", "demo", "logits");

/** The texts of `logits/<name>.safetensors`: the adapter's logits as the reference's, the merged ones as the candidate's. */
export async function savedTexts(
  name: string,
  candidate: "merged" | "base" = "merged",
): Promise<SavedText[]> {
  const tensors = await readTensors(join(DEMO, `${name}.safetensors`));
  const texts: SavedText[] = [];
  for (let i = 0; tensors.has(`text.${i}.input_ids`); i++) {
    const rows = (which: string) => {
      const { bytes, shape } = tensors.get(`text.${i}.${which}`)!;
      const width = shape[1]!;
      return Array.from({ length: shape[0]! }, (_, row) =>
        Array.from({ length: width }, (__, column) => bytes.readFloatLE(4 * (row * width + column))),
      );
    };
    const { bytes, shape } = tensors.get(`text.${i}.input_ids`)!;
    const ids = Array.from({ length: shape[0]! }, (_, at) => Number(bytes.readBigInt64LE(8 * at)));
    texts.push({ ids, reference: rows("adapter"), candidate: rows(candidate) });
  }
  return texts;
}

/** Softmax by its definition; logits of language models are far from float64's limits. */
export function probabilities(logits: readonly number[]): number[] {
  const powers = logits.map((logit) => Math.exp(logit));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

export interface NaivePrediction {
  readonly text: number;
  readonly kld: number;
  readonly deltaP: number;
  readonly nllReference: number;
  readonly nllCandidate: number;
  readonly sameTop: boolean;
  readonly maxDifference: number;
}

/** Each prediction of each text by the definitions, in float64, sharing nothing with the code under test. */
export function naivePredictions(texts: readonly SavedText[]): NaivePrediction[] {
  return texts.flatMap(({ ids, reference, candidate }, text) =>
    ids.slice(1).map((token, at) => {
      const p = probabilities(reference[at]!);
      const q = probabilities(candidate[at]!);
      const top = (row: readonly number[]) => row.indexOf(Math.max(...row));
      return {
        text,
        kld: p.reduce((sum, share, i) => sum + share * Math.log(share / q[i]!), 0),
        deltaP: q[token]! - p[token]!,
        nllReference: -Math.log(p[token]!),
        nllCandidate: -Math.log(q[token]!),
        sameTop: top(reference[at]!) === top(candidate[at]!),
        maxDifference: Math.max(...reference[at]!.map((logit, i) => Math.abs(logit - candidate[at]![i]!))),
      };
    }),
  );
}

/** Columns with the given KLD, document by document; everything else as if both sides were equal. */
export function measuresOf(
  documents: readonly (readonly number[])[],
  columns: Partial<Omit<Measures, "starts" | "kld">> = {},
): Measures {
  const kld = Float64Array.from(documents.flat());
  const starts = [0];
  for (const document of documents) starts.push(starts.at(-1)! + document.length);
  const n = kld.length;
  return {
    starts,
    kld,
    nllReference: new Float64Array(n).fill(1),
    nllCandidate: new Float64Array(n).fill(1),
    deltaP: new Float64Array(n),
    topReference: new Int32Array(n),
    topCandidate: new Int32Array(n),
    label: new Int32Array(n),
    logitDifference: new Float32Array(n),
    nonFinite: new Int32Array(n),
    ...columns,
  };
}
