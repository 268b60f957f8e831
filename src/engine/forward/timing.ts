import { generate } from "./generate.ts";
import type { SideTimes, ToForward } from "./protocol.ts";
import { openForward } from "./session.ts";

/** Runs each side alone over the same prompt, and times the first token and the ones after it. */
export async function measureSides(request: Extract<ToForward, { type: "measure" }>): Promise<SideTimes[]> {
  const times: SideTimes[] = [];
  for (const side of request.setup.sides) {
    const open = await openForward({ ...request.setup, sides: [side] });
    const at = [performance.now()];
    const { prompt, newTokens } = request;
    const stepped = () => at.push(performance.now());
    await generate(open.forward, { prompts: [prompt], maxNewTokens: newTokens + 1, ends: [], stepped }, 1);
    await open.close();
    times.push({ prefill: at[1]! - at[0]!, perToken: (at.at(-1)! - at[1]!) / newTokens });
  }
  return times;
}
