import type { EngineEvent, EngineOptions } from "../events.ts";
import { type LastWord, type Passing, runForward } from "../forward/pool.ts";
import type { ToForward } from "../forward/protocol.ts";

/**
 * Runs models in their process and tells of it as events. The process ends with this generator, also where what is done
 * with a message fails or nobody wants the rest.
 * @param each makes an event of a message, or none
 * @throws what `runForward` throws
 */
export async function* relayed<Type extends ToForward["type"]>(
  request: Extract<ToForward, { type: Type }>,
  { signal }: EngineOptions,
  each: (message: Passing) => Promise<EngineEvent | null> | EngineEvent | null,
): AsyncGenerator<EngineEvent, LastWord> {
  const run = runForward(request, { signal });
  try {
    while (true) {
      const step = await run.next();
      if (step.done) return step.value;
      const event = await each(step.value);
      if (event) yield event;
    }
  } finally {
    await run.return(undefined as never);
  }
}
