import { Child } from "../child.ts";
import type { FromForward, Taken, ToForward } from "./protocol.ts";

/** What a run ends with. */
export type LastWord = Extract<FromForward, { type: "compared" | "generated" | "measured" | "done" }>;
export type Passing = Extract<FromForward, { type: "progress" | "tensor" | "tokens" }>;

/**
 * Runs models in a process of their own, which ends with the generator, also when it is left early or aborted.
 * @throws DEVICE_FAILED, BAD_FILE, NOT_FOUND, TOKEN_OUT_OF_RANGE, UNSUPPORTED_DTYPE; the reason of the signal
 */
export async function* runForward(
  request: ToForward,
  { signal }: { signal?: AbortSignal | undefined },
): AsyncGenerator<Passing, LastWord> {
  signal?.throwIfAborted();
  const child = new Child<ToForward | Taken, FromForward>({
    url: new URL("./process.ts", import.meta.url),
    what: "the process that runs the model",
    advice: "Run it on another device, or with less text at a time.",
  });
  const abort = () => child.fail(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    child.send(request);
    while (true) {
      const message = await child.next();
      if (message.type === "tensor") {
        yield message;
        child.send({ type: "taken" });
      } else if (message.type === "progress" || message.type === "tokens") yield message;
      else return message;
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    await child.kill();
  }
}
