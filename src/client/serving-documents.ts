import { type Document, document } from "./document.ts";
import type { AdviceOutcome, Metric, Started } from "./documents.ts";
import type { Device, EvaluationVerdict, ServingAdviceStartInput } from "./types.ts";

/** Bytes of both ways of serving, in decimal. */
export interface ServingSizes {
  readonly base: string;
  readonly adapter: string;
  /** Null where no merge can be planned, such as into a quantised base. */
  readonly merged: string | null;
  /** Number of adapters from which separate serving takes less; null: it never does. */
  readonly breakEven: number | null;
}

/** Milliseconds. */
export interface ServingSideTimes {
  readonly load: number;
  readonly prefill: number;
  readonly perToken: number;
}

export interface AdviceFacts extends AdviceOutcome {
  readonly adapters: number;
  readonly disk: ServingSizes;
  readonly memory: ServingSizes;
  readonly mergedExists: boolean;
  readonly times: {
    readonly separate: ServingSideTimes;
    readonly merged: ServingSideTimes;
    readonly standIn: boolean;
    readonly promptTokens: number;
    readonly weightsKept: boolean;
  } | null;
  readonly timesSkipped: string | null;
  readonly parity: {
    readonly verdict: EvaluationVerdict;
    readonly codes: readonly string[];
    readonly meanKld: Metric | null;
    readonly sameTop: Metric | null;
  } | null;
  readonly paritySkipped: string | null;
  readonly commands: { readonly merged: string; readonly separate: string | null };
  readonly device: Device;
  readonly environment: { readonly processor: string; readonly threads: number };
  readonly measuredAt: string;
  readonly document: unknown;
}

export const servingAdviceQuery: Document<
  { readonly servingAdvice: AdviceFacts | null },
  { readonly version: string }
> = document(`
  query ServingAdvice($version: ID!) {
    servingAdvice(version: $version) {
      id recommendation reasons { code message } adapters mergedExists
      disk { ...S } memory { ...S }
      times { separate { ...T } merged { ...T } standIn promptTokens weightsKept } timesSkipped
      parity { verdict codes meanKld { ...M } sameTop { ...M } } paritySkipped
      commands { merged separate } device environment { processor threads } measuredAt document
    }
  }
  fragment S on ServingSizes { base adapter merged breakEven }
  fragment T on ServingSideTimes { load prefill perToken }
  fragment M on Metric { value standardError lower upper }
`);

export const servingAdviceStartMutation: Document<
  { readonly servingAdviceStart: Started },
  { readonly input: ServingAdviceStartInput }
> = document(`
  mutation ServingAdviceStart($input: ServingAdviceStartInput!) {
    servingAdviceStart(input: $input) { job { id state } userErrors { code field message } }
  }
`);
