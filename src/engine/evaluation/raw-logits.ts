import type { DeviceName } from "../../core/devices.ts";
import { counted } from "../../core/evaluation/wording.ts";
import type { TokenInput } from "../../core/token-rows.ts";
import { requireNew, TensorFile } from "../../storage/tensor-file.ts";
import type { EngineEvent, EngineOptions } from "../events.ts";
import type { RawTensor } from "../forward/protocol.ts";
import { forwardDevice, keptBytes, type RunnableModel } from "./model-sides.ts";
import { type AlignedSides, alignSides } from "./pair.ts";
import { isPadded, plannedTensors, type RawOutput, rawOutputs } from "./raw-file.ts";
import { relayed } from "./relay.ts";

export interface RawRequest {
  readonly model: RunnableModel;
  readonly inputs: readonly TokenInput[];
  /** File to write; must not exist. */
  readonly output: string;
  /** Hidden states as well. */
  readonly hidden: boolean;
  readonly device: DeviceName;
  /** For the file's header. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface RawSummary {
  readonly texts: number;
  readonly tokens: number;
  /** Of the whole file. */
  readonly bytes: number;
  /** What was written of each text, with its width. */
  readonly outputs: readonly RawOutput[];
}

/**
 * Runs a model over texts, each alone and without its padding, and writes what it gives as float32: logits, and where
 * asked for hidden states. Rows are written as they come; positions of padding stay 0.
 * @throws OUTPUT_EXISTS, UNSUPPORTED_ARCHITECTURE, TOKEN_OUT_OF_RANGE, DEVICE_UNAVAILABLE, DEVICE_FAILED, NOT_ENOUGH_DISK;
 *   then nothing is left
 */
export async function* writeRaw(
  request: RawRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, RawSummary> {
  await requireNew(request.output);
  const { inputs, hidden } = request;
  const pair = alignSides([request.model.side]);
  const device = await forwardDevice(request.device);
  const outputs = rawOutputs(pair, hidden);
  await using file = await TensorFile.create(
    request.output,
    plannedTensors(inputs, outputs),
    request.metadata,
  );
  const places = rowPlaces(inputs);
  const tokens = places.reduce((sum, { ids }) => sum + ids.length, 0);
  const message = `running ${counted(places.length, "text")}, ${counted(tokens, "token")}`;
  yield { type: "stage", stage: "logits", message };
  for (const place of places) await writeInputs(file, place);
  const writer = new RawWriter(file, { outputs, places });
  const setup = rawSetup(pair, { device, places, hidden, threads: options.threads });
  yield* relayed(setup, options, async (message) => {
    if (message.type !== "tensor") return null;
    await writer.write(message.tensor);
    return { type: "progress", stage: "logits", done: writer.bytes, total: writer.total };
  });
  writer.requireComplete();
  await file.publish();
  return { texts: places.length, tokens, bytes: file.size, outputs };
}

interface Setup {
  readonly device: Awaited<ReturnType<typeof forwardDevice>>;
  readonly places: readonly RowPlace[];
  readonly hidden: boolean;
  readonly threads: number;
}

function rawSetup(pair: AlignedSides, { device, places, hidden, threads }: Setup) {
  return {
    type: "logits",
    setup: { model: pair.model, sides: pair.sides, device, threads, cacheBytes: keptBytes(pair) },
    sequences: places.map(({ ids }) => ids),
    hidden,
  } as const;
}

/** One text: a row of an input. */
interface RowPlace {
  readonly input: TokenInput;
  readonly row: number;
  readonly ids: Int32Array;
  /** Position of its first token in the tensors of the input, counted over all rows. */
  readonly first: number;
}

function rowPlaces(inputs: readonly TokenInput[]): RowPlace[] {
  return inputs.flatMap((input) =>
    input.rows.map(({ ids, begin }, row) => ({ input, row, ids, first: row * input.shape.at(-1)! + begin })),
  );
}

/** The ids, so that the file says what its numbers are of; where there is padding, 0, with a mask. */
async function writeInputs(file: TensorFile, { input, ids, first }: RowPlace): Promise<void> {
  const { prefix, rows, shape } = input;
  await file.write(`${prefix}input_ids`, 8 * first, BigInt64Array.from(ids, BigInt));
  if (isPadded(rows, shape)) {
    await file.write(`${prefix}attention_mask`, 8 * first, new BigInt64Array(ids.length).fill(1n));
  }
}

/** Puts what a forward pass tells into its place; a text's rows come in order, in blocks. */
class RawWriter {
  readonly #file: TensorFile;
  readonly #places: readonly RowPlace[];
  readonly #outputs: ReadonlyMap<string, RawOutput>;
  /** Elements written of each text and output. */
  readonly #written = new Map<string, number>();
  readonly total: number;
  bytes = 0;

  constructor(
    file: TensorFile,
    { outputs, places }: { outputs: readonly RawOutput[]; places: readonly RowPlace[] },
  ) {
    this.#file = file;
    this.#places = places;
    this.#outputs = new Map(outputs.map((output) => [output.name, output]));
    this.total = places.reduce(
      (sum, { ids }) =>
        sum +
        outputs.reduce((all, { per, width }) => all + 4 * width * (per === "token" ? ids.length : 1), 0),
      0,
    );
  }

  async write({ name, sequence, data }: RawTensor): Promise<void> {
    const place = this.#places[sequence];
    const output = this.#outputs.get(name);
    if (!place || !output) throw new Error(`nobody asked for ${name} of text ${sequence}`);
    const key = `${sequence} ${name}`;
    const before = this.#written.get(key) ?? 0;
    const start = (output.per === "token" ? place.first : place.row) * output.width;
    await this.#file.write(`${place.input.prefix}${name}`, 4 * (start + before), data);
    this.#written.set(key, before + data.length);
    this.bytes += data.byteLength;
  }

  requireComplete(): void {
    if (this.bytes !== this.total) throw new Error(`${this.bytes} of ${this.total} bytes were written`);
  }
}
