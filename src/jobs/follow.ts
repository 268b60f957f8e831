import type { EngineEvent, Stage } from "../engine/events.ts";

/** What a job does with the events of its work. */
export interface Follower {
  stage(stage: Stage, message: string): Promise<void>;
  /** Called at most `PER_SECOND` times a second, and with the last state of each stage. */
  progress(stage: Stage, done: number, total: number): Promise<void>;
  warning(finding: { code: string; message: string; subject?: string }): Promise<void>;
}

const PER_SECOND = 4;

/** Runs work to its end, telling the follower as it goes, and returns its result. */
export async function follow<T>(work: AsyncGenerator<EngineEvent, T>, follower: Follower): Promise<T> {
  let told = 0;
  let untold: Extract<EngineEvent, { type: "progress" }> | null = null;
  const tell = async () => {
    if (untold) await follower.progress(untold.stage, untold.done, untold.total);
    untold = null;
    told = performance.now();
  };
  try {
    let step = await work.next();
    for (; !step.done; step = await work.next()) {
      const event = step.value;
      if (event.type === "progress") {
        untold = event;
        if (performance.now() - told >= 1000 / PER_SECOND) await tell();
        continue;
      }
      await tell();
      if (event.type === "stage") await follower.stage(event.stage, event.message);
      else await follower.warning(event.finding);
    }
    await tell();
    return step.value;
  } catch (error) {
    // Leaving in the middle: the work must still stop its threads and remove what it was writing.
    await work.return(undefined as never).catch(() => {});
    throw error;
  }
}
