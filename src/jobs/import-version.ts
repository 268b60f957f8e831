import { checkpointDigests } from "../core/checkpoint.ts";
import type { Finding } from "../core/errors.ts";
import { digestCheckpoint } from "../engine/digest.ts";
import { measureUpdates } from "../engine/update-norms.ts";
import { type ImportInput, recordImport } from "../registry/models.ts";
import { readModelFolder } from "../storage/model-folder.ts";
import { requireUnchanged } from "../storage/staging.ts";
import type { JobDefinition, JobRun } from "./job.ts";

/** Reads a folder where it lies, digests every tensor once, and records it as a version. Writes no file. */
export const importVersion: JobDefinition = {
  kind: "IMPORT_VERSION",
  concurrency: 1,
  handle: async (run) => {
    const { path } = run.input as ImportInput;
    const { folder, facts, notices } = await readModelFolder(path, { roots: run.settings.importRoots });
    const read = await run.follow(digestCheckpoint({ folder, facts }, run.engine));
    const digested =
      read.kind === "adapter" ? await run.follow(measureUpdates({ folder, facts: read }, run.engine)) : read;
    // A download that was still running while we read would otherwise be recorded as something it never was.
    await requireUnchanged(folder, digested.files);
    const warnings = [...notices, ...(digested.hasCode ? [CARRIES_CODE] : [])];
    for (const warning of warnings) await run.emit({ type: "warning", data: { ...warning } });
    await record(run, { facts: digested, digests: checkpointDigests(digested), location: folder, warnings });
  },
};

async function record(run: JobRun, read: Parameters<typeof recordImport>[2]): Promise<void> {
  await run.patiently(() => recordImport(run.registry, run.claim, read));
}

const CARRIES_CODE: Finding = {
  code: "CARRIES_CODE",
  message:
    "the folder carries Python code (auto_map or *.py): it is recorded, never run; loading the model needs trust_remote_code.",
};
