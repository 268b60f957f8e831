import { availableParallelism, homedir, totalmem } from "node:os";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { type Finding, refusal } from "./core/errors.ts";
import { FAILPOINTS, type Failpoint } from "./engine/events.ts";
import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** What the environment decides, validated. Rooms get it in their `ctx`; nothing else reads the environment. */
export interface Settings {
  /** 0: any free port. */
  readonly port: number;
  readonly host: string;
  /** `null`: the embedded Postgres. */
  readonly databaseUrl: string | null;
  /** Absolute. */
  readonly home: string;
  /** `null`: one is made at the first start. */
  readonly adminToken: string | null;
  /** Absolute folders that imports may read from. */
  readonly importRoots: readonly string[];
  readonly failpoint: Failpoint | null;
  /** Threads of one merge. */
  readonly threads: number;
  /** Bytes that all merges and evaluations of one worker may take together. */
  readonly memory: number;
  readonly logLevel: LogLevel;
  /** Whether the API answers introspection. */
  readonly introspection: boolean;
}

export interface SettingDescription {
  readonly name: string;
  /** As documented; `null`: unset. */
  readonly default: string | null;
  readonly description: string;
  /** Its value never appears in a message or a log. */
  readonly secret: boolean;
}

interface SettingRule extends SettingDescription {
  readonly schema: z.ZodType<unknown, string>;
  /** What a right value is, for the message about a wrong one. */
  readonly allowed: string;
}

const MIN_TOKEN = 20;

const RULES = {
  PORT: rule({
    default: "4000",
    description: "TCP port of API and console; 0 takes any free one.",
    schema: whole(0, 65_535),
    allowed: "a whole number from 0 to 65535",
  }),
  HOST: rule({
    default: "127.0.0.1",
    description: "Address to listen on; 0.0.0.0 lets other machines in.",
    schema: z.string().regex(/^[A-Za-z0-9.:_-]+$/),
    allowed: "a host name or an address, without port",
  }),
  DATABASE_URL: rule({
    default: null,
    description: "Postgres 15 or newer to use instead of the embedded one.",
    schema: z.string().refine(isPostgresUrl),
    allowed: "postgresql://user:password@host:port/database",
    secret: true,
  }),
  GRAFTWORK_HOME: rule({
    default: "./.graftwork",
    description:
      "Folder for everything Graftwork writes: merged models, the embedded database, the admin token.",
    schema: z.string(),
    allowed: "a folder",
  }),
  GRAFTWORK_ADMIN_TOKEN: rule({
    default: null,
    description: `The admin token to use (at least ${MIN_TOKEN} characters) instead of a generated one.`,
    schema: z.string().regex(new RegExp(`^[\\x21-\\x7e]{${MIN_TOKEN},200}$`)),
    allowed: `${MIN_TOKEN} to 200 visible ASCII characters without spaces`,
    secret: true,
  }),
  GRAFTWORK_IMPORT_ROOTS: rule({
    default: null,
    description: `Folders that imports may read from, separated by "${delimiter}"; the working directory and the Hugging Face cache where unset.`,
    schema: z
      .string()
      .refine((text) => paths(text).length > 0 && paths(text).every((path) => isAbsolute(path))),
    allowed: `absolute folders separated by "${delimiter}"`,
  }),
  GRAFTWORK_THREADS: rule({
    default: null,
    description: "Threads of one merge; as many as the machine has processors where unset.",
    schema: whole(1, 256),
    allowed: "a whole number from 1 to 256",
  }),
  GRAFTWORK_MEMORY: rule({
    default: null,
    description:
      "Megabytes of memory that all merges and evaluations of one worker may take together, as estimated; others wait. Half of what the machine or container has where unset.",
    schema: whole(100, 99_999_999, 8),
    allowed: "a whole number of megabytes from 100",
  }),
  GRAFTWORK_LOG: rule({
    default: "info",
    description: `How much is logged to stderr: ${LOG_LEVELS.join(", ")}.`,
    schema: z.enum(LOG_LEVELS),
    allowed: LOG_LEVELS.join(", "),
  }),
  GRAFTWORK_INTROSPECTION: rule({
    default: "on",
    description: "Whether the API answers introspection queries: on or off.",
    schema: z.enum(["on", "off"]),
    allowed: "on or off",
  }),
  GRAFTWORK_FAILPOINT: rule({
    default: null,
    description: "For tests: the place in a merge at which the process kills itself.",
    schema: z.enum(FAILPOINTS),
    allowed: FAILPOINTS.join(", "),
  }),
} satisfies Record<string, Omit<SettingRule, "name">>;

type SettingName = keyof typeof RULES;

/** Every setting, for the documents and for the test that compares them and docker-compose.yml with it. */
export const SETTINGS: readonly SettingDescription[] = Object.entries(RULES).map(([name, entry]) => ({
  name,
  default: entry.default,
  description: entry.description,
  secret: entry.secret,
}));

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads and validates the settings. An empty value counts as unset (docker compose passes those).
 * @throws BAD_SETTING with every wrong setting, what it was (unless secret) and what is allowed
 */
export function readSettings(env: Environment = process.env, cwd: string = process.cwd()): Settings {
  const wrong: Finding[] = [];
  const values = Object.fromEntries(
    (Object.keys(RULES) as SettingName[]).map((name) => [name, settingValue(name, env, wrong)]),
  ) as Record<SettingName, string | number | null>;
  if (wrong.length > 0) throw refusal("Graftwork cannot start", wrong);
  const roots = values.GRAFTWORK_IMPORT_ROOTS as string | null;
  return {
    port: values.PORT as number,
    host: values.HOST as string,
    databaseUrl: values.DATABASE_URL as string | null,
    home: resolve(cwd, values.GRAFTWORK_HOME as string),
    adminToken: values.GRAFTWORK_ADMIN_TOKEN as string | null,
    importRoots: roots === null ? [cwd, huggingFaceCache(env)] : paths(roots).map((path) => resolve(path)),
    failpoint: values.GRAFTWORK_FAILPOINT as Failpoint | null,
    memory: megabytes(values.GRAFTWORK_MEMORY as number | null) ?? Math.floor(availableMemory() / 2),
    threads: (values.GRAFTWORK_THREADS as number | null) ?? availableParallelism(),
    logLevel: values.GRAFTWORK_LOG as LogLevel,
    introspection: values.GRAFTWORK_INTROSPECTION === "on",
  };
}

const megabytes = (count: number | null) => (count === null ? null : count * 1_000_000);

/** Of the machine, or of the container where it has less. */
function availableMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/**
 * Where the command line remembers digests of files by their state: in GRAFTWORK_HOME where that is set, else in the
 * user's cache folder.
 */
export function digestCacheFolder(env: Environment = process.env, cwd: string = process.cwd()): string {
  if (env.GRAFTWORK_HOME) return resolve(cwd, env.GRAFTWORK_HOME, "cache", "digests");
  return join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "graftwork", "digests");
}

function settingValue(name: SettingName, env: Environment, wrong: Finding[]): string | number | null {
  const { schema, allowed, secret, default: fallback } = RULES[name];
  const text = env[name] || fallback;
  if (text === null) return null;
  const parsed = schema.safeParse(text);
  if (parsed.success) return parsed.data as string | number;
  const shown = secret ? "has a value that is not allowed" : `is "${text}"`;
  wrong.push({
    code: "BAD_SETTING",
    subject: name,
    message: `the environment variable ${name} ${shown}: it must be ${allowed}. Correct it or unset it.`,
  });
  return null;
}

function rule(entry: Omit<SettingRule, "name" | "secret"> & { secret?: boolean }): Omit<SettingRule, "name"> {
  return { ...entry, secret: entry.secret ?? false };
}

function whole(min: number, max: number, digits = 6): z.ZodType<number, string> {
  return z
    .string()
    .regex(new RegExp(`^\\d{1,${digits}}$`))
    .transform(Number)
    .refine((value) => value >= min && value <= max) as z.ZodType<number, string>;
}

function isPostgresUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && (url.protocol === "postgres:" || url.protocol === "postgresql:");
}

function paths(text: string): string[] {
  return text.split(delimiter).filter((path) => path !== "");
}

/** Where huggingface_hub keeps its downloads, by its own variables. */
function huggingFaceCache(env: Environment): string {
  if (env.HF_HUB_CACHE) return resolve(env.HF_HUB_CACHE);
  if (env.HF_HOME) return resolve(env.HF_HOME, "hub");
  return join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface", "hub");
}
