import type { MergePlan } from "../../core/plan.ts";
import type { WeightForm } from "../forward/side.ts";

interface Adapted {
  readonly tensor: string;
  readonly kind: WeightForm["kind"];
}

interface Circumstances {
  readonly plans: readonly MergePlan[];
  /** The base is stored in 8-bit floats. */
  readonly eight: boolean;
}

/** How the un-merged side runs what the adapters change, for people. */
export function noteOf(adapted: readonly Adapted[], { plans, eight }: Circumstances): string {
  const of = (kind: WeightForm["kind"]) => adapted.filter((one) => one.kind === kind);
  const [branches, stored, rows, computed] = [of("branches"), of("stored"), of("rows"), of("computed")];
  const parts = [
    branches.length > 0 && `${tensors(branches)} as run-time branches`,
    stored.length > 0 && `${tensors(stored)} as a whole from the adapter`,
    rows.length > 0 && `token rows of ${tensors(rows)} in their places`,
    computed.length > 0 &&
      `${tensors(computed)} (${changesOf(computed, plans)}) without a branch form: the exact change is added to the weight on the fly in float32`,
  ].filter((part) => part !== false);
  const sentences = [
    `${parts.join("; ")}.`,
    ...(eight ? ["The base is stored in 8-bit floats, and dequantised in float32."] : []),
    "Nothing is rounded to a storage type on this side.",
  ];
  return sentences.join(" ");
}

/** What the adapters call what they do to these tensors. */
function changesOf(some: readonly Adapted[], plans: readonly MergePlan[]): string {
  const names = new Set(some.map(({ tensor }) => tensor));
  const touched = plans.flatMap((plan) => plan.touched.filter(({ tensor }) => names.has(tensor)));
  return [...new Set(touched.map(({ change }) => change))].join(", ");
}

const tensors = ({ length }: readonly Adapted[]) => (length === 1 ? "1 tensor" : `${length} tensors`);
