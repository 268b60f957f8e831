import type { JobEvent } from "../../../src/client/documents.ts";
import { sentence, words } from "../ui/format.ts";

/** Adds an event in its place; one that is there already (a replay after a dropped connection) changes nothing. */
export function addEvent(events: readonly JobEvent[], next: JobEvent): readonly JobEvent[] {
  if (events.some((event) => event.number === next.number)) return events;
  return [...events, next].sort((a, b) => a.number - b.number);
}

const ENDS = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);

/** Whether a job in this state, or after an event of this type, will say nothing more. */
export function isOver(stateOrType: string): boolean {
  return ENDS.has(stateOrType);
}

/** One line of text for an event's data: its message if it has one, else its fields. */
export function describeEvent({ type, data }: Pick<JobEvent, "type" | "data">): string {
  if (typeof data !== "object" || data === null) return data === null ? "" : String(data);
  if (type === "SUCCEEDED") return describeSuccess(data as Record<string, unknown>);
  const { code, reason, message = reason, ...rest } = data as Record<string, unknown>;
  if (typeof message === "string") return typeof code === "string" ? `${code}: ${message}` : message;
  const all = code === undefined ? rest : { code, ...rest };
  const fields = Object.entries(all).filter(([, value]) => value !== null && value !== "");
  if (fields.length === 1 && typeof fields[0]![1] === "string") return fields[0]![1];
  return fields
    .map(
      ([key, value]) => `${spaced(key)} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`,
    )
    .join(", ");
}

function describeSuccess(data: Record<string, unknown>): string {
  const { cached, created, digest, verdict, recommendation, reasons } = data;
  if (Array.isArray(reasons)) {
    const outcome = String(recommendation ?? verdict);
    return reasons.length === 0 ? outcome : `${outcome}: ${reasons.join(", ")}`;
  }
  if (digest === undefined && verdict === "PASSED") return "every tensor is identical";
  if (digest === undefined && verdict === "FAILED") return "something differs: see above";
  if (cached === true) return "made before: the earlier result is this one's";
  const what = typeof digest === "string" ? digest : "";
  return created === false ? `these bytes were there already: ${what}` : what;
}

const spaced = (key: string) => key.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();

/** `PROGRESS_NOTE` → `Note`, `CLAIMED` → `Claimed`. */
export function eventTitle(type: string): string {
  return type === "PROGRESS_NOTE" ? "Note" : sentence(words(type));
}

const TONES: Record<string, string> = {
  WARNING: "warn",
  RETRYING: "warn",
  CANCELLED: "warn",
  SUCCEEDED: "good",
  FAILED: "bad",
  STAGE: "info",
};

export function eventTone(type: string): string {
  return TONES[type] ?? "";
}

const DISK = "Free space under GRAFTWORK_HOME on the server, then start it again.";
const NEXT_STEPS: Record<string, string> = {
  DISK_FULL: DISK,
  NOT_ENOUGH_DISK: DISK,
  PATH_OUTSIDE_ROOTS:
    "Move the folder below an allowed root, or add a root to GRAFTWORK_IMPORT_ROOTS and restart.",
  INPUT_CHANGED: "Restore the file that is named, or import the folder again: that makes a new version.",
  INTERNAL: "This is a bug: the server's log has the details, under the job's id.",
};

/** What to do about a failed job, where its code says more than its message. */
export function nextStep(code: string): string {
  return (
    NEXT_STEPS[code] ?? "Put right what the message names, then start it again: nothing half-done was kept."
  );
}
