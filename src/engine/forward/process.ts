import { env } from "node:process";
import { packError } from "../travel.ts";
import { compareSides } from "./compare.ts";
import { generate } from "./generate.ts";
import type { FromForward, RawTensor, Taken, ToForward } from "./protocol.ts";
import { rawNumbers } from "./raw.ts";
import { type OpenForward, openForward } from "./session.ts";
import { measureSides } from "./timing.ts";

/*
 * A process of its own for running models: ONNX Runtime blocks its thread, and a driver that crashes must not take a
 * server with it.
 */

// cuBLAS may otherwise multiply float32 in 10 bits of fraction.
env.NVIDIA_TF32_OVERRIDE = "0";

const send = (message: FromForward) => process.send!(message);

/** Lets messages out, and in: whoever asked may be gone. */
const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Those who wait for their tensor to be taken, in the order of the tensors. */
const waiting: (() => void)[] = [];

/** Sends a tensor and waits until it was taken. */
function handOver(tensor: RawTensor): Promise<void> {
  send({ type: "tensor", tensor });
  return new Promise((resolve) => waiting.push(resolve));
}

async function obey(message: ToForward, open: OpenForward): Promise<FromForward> {
  const { forward, runtime } = open;
  switch (message.type) {
    case "compare": {
      const { sequences, otherSequences, chunkTokens } = message;
      const progress = (done: number, total: number) => send({ type: "progress", done, total });
      const request = { sequences, otherSequences, chunkTokens, progress, between: breathe };
      const comparison = await compareSides(forward, request);
      return { type: "compared", comparison, runtime, peakBytes: process.resourceUsage().maxRSS * 1024 };
    }
    case "logits":
      for (const [sequence, ids] of message.sequences.entries()) {
        const each = (tensor: Parameters<Parameters<typeof rawNumbers>[2]["each"]>[0]) =>
          handOver({ ...tensor, sequence });
        await rawNumbers(forward, ids, { hidden: message.hidden, each });
        await breathe();
      }
      return { type: "done" };
    case "generate": {
      const { prompts, maxNewTokens, ends, setup } = message;
      const stepped = (_: number, next: readonly (readonly (number | null)[])[]) =>
        send({ type: "tokens", next });
      const request = { prompts, maxNewTokens, ends, stepped, between: breathe };
      return { type: "generated", texts: await generate(forward, request, setup.sides.length) };
    }
    case "measure":
      return { type: "measured", sides: await measureSides(message) };
  }
}

async function answer(message: ToForward): Promise<FromForward> {
  try {
    const open = await openForward(message.setup);
    try {
      return await obey(message, open);
    } finally {
      await open.close();
    }
  } catch (error) {
    return { type: "failed", error: packError(error) };
  }
}

process.on("message", async (message: ToForward | Taken) => {
  if (message.type === "taken") waiting.shift()?.();
  else process.send!(await answer(message), undefined, undefined, () => process.disconnect());
});
// Whoever asked is gone: nobody waits for the rest.
process.on("disconnect", () => process.exit());
