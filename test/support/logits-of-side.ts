import type { DescribedSide } from "../../src/engine/evaluation/sides.ts";
import { rawNumbers } from "../../src/engine/forward/raw.ts";
import { openSides } from "./forward.ts";

const TOKENS = Int32Array.from([1, 17, 3, 42, 9, 40, 7, 21, 2, 11]);

/** Of ten tokens, all of them in one list. */
export async function logitsOf(side: DescribedSide): Promise<number[]> {
  const open = await openSides([side]);
  const logits: number[] = [];
  await rawNumbers(open.forward, TOKENS, {
    hidden: false,
    each: ({ name, data }) => {
      if (name === "logits") logits.push(...data);
    },
  });
  await open.close();
  return logits;
}
