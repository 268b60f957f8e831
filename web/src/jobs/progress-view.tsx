import type { JobFacts } from "../../../src/client/documents.ts";
import { formatBytes, formatDuration, formatWhole, sentence } from "../ui/format.ts";
import { rateOf, type Sample, secondsLeft } from "./progress.ts";

interface ProgressProps {
  readonly job: JobFacts;
  readonly samples: readonly Sample[];
  /** False inside a card, which needs no second frame. */
  readonly framed?: boolean;
}

/** The bar, the stage, how much of how much, how fast, and how long still. */
export function ProgressView({ job, samples, framed = true }: ProgressProps) {
  const progress = job.progress;
  const total = Number(progress?.total ?? 0);
  const done = Number(progress?.done ?? 0);
  const show =
    progress?.unit === "bytes" ? formatBytes : (n: number) => `${formatWhole(n)} ${progress?.unit}`;
  const stage = job.state === "QUEUED" ? "Waiting for a worker" : sentence(progress?.stage ?? "Starting");
  const rate = rateOf(samples);
  const left = secondsLeft(samples);
  const known = total > 0;
  return (
    <section className={framed ? "card progress" : "progress"} aria-label="Progress">
      <div className="line">
        <span className="stage" aria-live="polite">
          {stage}
        </span>
        {known && <span>{Math.floor((100 * done) / total)} %</span>}
      </div>
      {known ? (
        <progress aria-label={stage} max={total} value={Math.min(done, total)} />
      ) : (
        <progress aria-label={stage} />
      )}
      <div className="line muted small-text">
        <span>{known ? `${show(done)} of ${show(total)}` : " "}</span>
        <span>
          {rate !== null && `${show(rate)}/s`}
          {left !== null && `, about ${formatDuration(left)} left`}
        </span>
      </div>
    </section>
  );
}
