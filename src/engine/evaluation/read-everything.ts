import { allTensors, checkpointDigests, type VersionDigests } from "../../core/checkpoint.ts";
import { withResults } from "../digest.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import type { TensorTask, Work, WorkResult } from "../pool.ts";
import { runWorks } from "../run-tasks.ts";
import { type PlannedComparison, readTasks } from "./compare-tasks.ts";
import type { ComparedTensor } from "./tensor-comparer.ts";

/** What one pass over base, adapters and candidate told. */
export interface ReadTensors {
  /** By the planned name. */
  readonly compared: ReadonlyMap<string, ComparedTensor>;
  readonly base: VersionDigests;
  readonly sources: readonly VersionDigests[];
  /** Null where it is computed. */
  readonly candidate: VersionDigests | null;
  /** `sha256:…` of a tensor of the candidate. */
  readonly candidateDigest: (tensor: string) => string;
}

interface Places {
  readonly base: Located;
  readonly sources: readonly Located[];
  readonly candidate: Located | null;
}

/**
 * Runs the comparisons and reads what they do not: the adapters, what the base has besides, what the candidate has
 * besides. So everything that is compared has been digested in this very pass, and what was digested before must be
 * the same still. With a computed candidate the rest of a base whose digests are known is not read.
 * @throws INPUT_CHANGED, BAD_FILE
 */
export async function* readEverything(
  places: Places,
  planned: readonly PlannedComparison[],
  options: EngineOptions,
): AsyncGenerator<EngineEvent, ReadTensors> {
  const compares = planned.map(({ task }): Work => ({ kind: "compare", task }));
  const reads = unread(places, planned).map((task): Work => ({ kind: "tensor", task }));
  const compared = new Map<string, ComparedTensor>();
  const read = new Map<string, string>();
  const done = async (_: number, found: WorkResult) => {
    if (found.kind === "compare") compared.set(found.result.name, found.result);
    if (found.kind === "tensor") read.set(found.result.name, found.result.inputDigest!);
  };
  yield* runWorks({ stage: "verify", works: [...compares, ...reads], done }, options);
  for (const { step, candidate } of planned) {
    const { inputDigest, candidateDigest } = compared.get(step.tensor)!;
    if (step.input && inputDigest) read.set(BASE + step.input.tensor, inputDigest);
    if (candidate !== null && candidateDigest) read.set(CANDIDATE + candidate, candidateDigest);
  }
  const digests = (place: Located, prefix: string) =>
    checkpointDigests(
      withResults(place.facts, ({ name, digest }) => ({
        digest: read.get(prefix + name) ?? digest!,
        stats: NONE,
      })),
    );
  return {
    compared,
    base: digests(places.base, BASE),
    sources: places.sources.map((place, i) => digests(place, sourcePrefix(i))),
    candidate: places.candidate && digests(places.candidate, CANDIDATE),
    candidateDigest: (tensor) => read.get(CANDIDATE + tensor)!,
  };
}

const BASE = "base:";
const CANDIDATE = "candidate:";
const sourcePrefix = (i: number) => `source ${i}:`;
const NONE = { absmax: null, rms: null, nonFinite: 0 };

/** Tasks for all that the comparisons do not read. */
function unread({ base, sources, candidate }: Places, planned: readonly PlannedComparison[]): TensorTask[] {
  const inputs = planned.flatMap(({ step }) => step.input?.tensor ?? []);
  const known = candidate ? [] : allTensors(base.facts).flatMap(({ name, digest }) => (digest ? [name] : []));
  const theirs = new Set(planned.flatMap((one) => one.candidate ?? []));
  return [
    ...readTasks(base, { prefix: BASE, except: new Set([...inputs, ...known]) }),
    ...sources.flatMap((place, i) => readTasks(place, { prefix: sourcePrefix(i), except: new Set() })),
    ...(candidate ? readTasks(candidate, { prefix: CANDIDATE, except: theirs }) : []),
  ];
}
