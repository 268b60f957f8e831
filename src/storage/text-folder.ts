import { join, resolve } from "node:path";
import { discardAbandoned, stagingBeside } from "./beside.ts";
import { discardStaging, makeStaging, publishFolder, syncTree, writeText } from "./staging.ts";
import { requireNew } from "./tensor-file.ts";

/**
 * Makes the folder that would be written first, and removes it again: a long run must not find out at its end.
 * @throws OUTPUT_EXISTS, NOT_WRITABLE, NOT_READABLE, DISK_FULL, …; nothing is left either way
 */
export async function requireWritable(output: string): Promise<void> {
  const target = resolve(output);
  await requireNew(target);
  const staging = await stagingBeside(target);
  const topmost = await makeStaging(staging, target);
  await discardStaging(staging, topmost);
}

/**
 * Writes a folder of text files that appears when it is complete.
 * @throws OUTPUT_EXISTS, DISK_FULL, …; then nothing is left
 */
export async function writeTextFolder(
  output: string,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const target = resolve(output);
  await discardAbandoned(target);
  const staging = await stagingBeside(target);
  const topmost = await makeStaging(staging, target);
  try {
    for (const [name, text] of Object.entries(files)) await writeText(join(staging, name), text);
    await syncTree(staging);
    await publishFolder(staging, target);
  } catch (error) {
    await discardStaging(staging, topmost);
    throw error;
  }
  return target;
}
