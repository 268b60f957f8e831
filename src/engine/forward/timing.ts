import { generate } from "./generate.ts";
import type { SideTimes, ToForward } from "./protocol.ts";
import { openForward } from "./session.ts";

/** Runs each side alone: a prompt of one token with nothing loaded, then the prompt, its first token and the others timed. */
export async function measureSides(request: Extract<ToForward, { type: "measure" }>): Promise<SideTimes[]> {
  const times: SideTimes[] = [];
  for (const side of request.setup.sides) {
    const begin = performance.now();
    const open = await openForward({ ...request.setup, sides: [side] });
    const { prompt, newTokens } = request;
    await generate(open.forward, { prompts: [prompt.subarray(0, 1)], maxNewTokens: 1, ends: [] }, 1);
    const loaded = performance.now() - begin;
    // Graphs are compiled for their sizes once; nobody waits for that twice.
    await generate(open.forward, { prompts: [prompt], maxNewTokens: 1, ends: [] }, 1);
    const at = [performance.now()];
    const stepped = () => at.push(performance.now());
    await generate(open.forward, { prompts: [prompt], maxNewTokens: newTokens + 1, ends: [], stepped }, 1);
    await open.close();
    times.push({ load: loaded, prefill: at[1]! - at[0]!, perToken: (at.at(-1)! - at[1]!) / newTokens });
  }
  return times;
}
