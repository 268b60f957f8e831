import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { type Document, document } from "./client/document.ts";
import {
  mergePlanQuery,
  mergeStartMutation,
  mergeVerifyMutation,
  modelImportMutation,
  type ResultVersion,
  versionQuery,
} from "./client/documents.ts";
import { GraphqlFailure } from "./client/failure.ts";
import type { Client } from "./client/index.ts";
import type { MergePlanInput, Verdict } from "./client/types.ts";
import { readSettings } from "./config.ts";
import { AppError } from "./core/errors.ts";
import { evaluate } from "./demo-evaluate.ts";
import { follow, requireNone } from "./demo-follow.ts";
import { type DemoServer, reachServer, type ServerProcess } from "./demo-server.ts";
import { lineageTree, say, since, size } from "./demo-show.ts";

/*
 * The main job on the demo family, only through the GraphQL API: import a base and two adapters, plan, merge, check,
 * verify, evaluate, lineage. `--once` stops the server afterwards; the exit code is 0 only when everything succeeded.
 */

const FAMILY = join(import.meta.dirname, "../test/fixtures/demo");
const BASE = "graftwork/demo-base";
const ADAPTERS = ["sentiment", "customer-support"] as const;

/** The check after a merge and the verification of it, as the API stores them. */
const reportsQuery: Document<
  {
    readonly version: {
      readonly merge: {
        readonly verdict: Verdict | null;
        readonly report: {
          readonly checks: readonly {
            readonly name: string;
            readonly passed: boolean;
            readonly detail: string;
          }[];
        } | null;
        readonly verification: {
          readonly report: { readonly verdict: string; readonly tensors: number } | null;
        } | null;
      } | null;
    } | null;
  },
  { readonly ref: string }
> = document(`
  query DemoReports($ref: String!) {
    version(ref: $ref) { merge { verdict report { checks { name passed detail } } verification { report } } }
  }
`);

async function runDemo({ url, client }: DemoServer): Promise<void> {
  const base = await importModel(client, { folder: "base", model: BASE });
  const merged: ResultVersion[] = [];
  for (const name of ADAPTERS) {
    await importModel(client, { folder: `adapters/${name}`, model: `graftwork/${name}`, base: BASE });
    const version = await merge(client, name);
    merged.push(version);
    await evaluate({ client, url }, { base: BASE, adapter: `graftwork/${name}`, merged: version.ref });
  }
  say("\nLineage");
  const { version } = await client.request(versionQuery, { ref: base.ref });
  for (const line of lineageTree(version!, version!.descendants?.edges ?? [])) say(`  ${line}`);
  say("\nDigests");
  for (const made of [base, ...merged]) say(`  ${made.ref}  ${made.digest}`);
  say(`\nConsole  ${url}/models/${merged[0]!.ref}`);
}

interface Import {
  readonly folder: string;
  readonly model: string;
  readonly base?: string;
}

async function importModel(client: Client, { folder, model, base }: Import): Promise<ResultVersion> {
  say(`\nImport ${model} from ${join("test/fixtures/demo", folder)}`);
  const started = performance.now();
  const known = (await client.request(versionQuery, { ref: model })).version?.ref;
  const { modelImport } = await client.request(modelImportMutation, {
    input: {
      source: { local: join(FAMILY, folder) },
      model,
      ...(base !== undefined && { base: { ref: base } }),
      idempotencyKey: randomUUID(),
    },
  });
  const { result } = await follow(client, modelImport, `import ${model}`);
  const version = result?.__typename === "ImportResult" ? result.version : null;
  if (!version) throw new AppError("DEMO_FAILED", `the import of ${model} succeeded without a version.`);
  say(`  ${version.ref}  ${version.digest}`);
  say(
    version.ref === known
      ? `  these bytes were imported before (${since(started)})`
      : `  imported in ${since(started)}`,
  );
  return version;
}

async function merge(client: Client, name: string): Promise<ResultVersion> {
  const input = { base: { version: { ref: BASE } }, sources: [{ version: { ref: `graftwork/${name}` } }] };
  const output = `graftwork/${name}-merged`;
  say(`\nPlan ${BASE} + graftwork/${name}`);
  await showPlan(client, input);

  say(`\nMerge into ${output}`);
  const started = performance.now();
  const { mergeStart } = await client.request(mergeStartMutation, {
    input: { ...input, output: { model: output }, idempotencyKey: randomUUID() },
  });
  const { result } = await follow(client, mergeStart, `merge ${output}`);
  const made = result?.__typename === "MergeResult" ? result : null;
  const version = made?.version;
  if (!version) throw new AppError("DEMO_FAILED", `the merge into ${output} succeeded without a version.`);
  say(`  ${version.ref}  ${version.digest}`);
  say(
    made.cached
      ? `  the same recipe was merged before: cached (${since(started)})`
      : `  merged in ${since(started)}${version.location ? `: ${version.location}` : ""}`,
  );
  await verify(client, version);
  return version;
}

async function showPlan(client: Client, input: MergePlanInput): Promise<void> {
  const { mergePlan } = await client.request(mergePlanQuery, { input });
  requireNone(mergePlan.userErrors, "plan");
  const plan = mergePlan.plan!;
  say(`  ${plan.touchedCount} of ${plan.tensorCount} tensors change`);
  say(`  reads ${size(plan.bytesToRead)}, writes ${size(plan.bytesToWrite)}:`);
  for (const { path, sizeBytes } of [...plan.outputs, ...plan.files]) say(`    ${path}  ${size(sizeBytes)}`);
  say(`  tokenizer: the ${plan.tokenizer.from.toLowerCase()}'s`);
  for (const warning of plan.warnings) say(`  warning ${warning.code}: ${warning.message}`);
  if (plan.cachedVersion) say(`  its result exists: ${plan.cachedVersion.ref}`);
  if (!plan.runnable) {
    const reasons = plan.refusals.map((refusal) => `${refusal.code}: ${refusal.message}`);
    throw new AppError("DEMO_FAILED", `the plan is refused: ${reasons.join(" ")}`);
  }
}

async function verify(client: Client, version: ResultVersion): Promise<void> {
  say(`\nVerify ${version.ref}: derive every tensor again and compare`);
  const started = performance.now();
  const { mergeVerify } = await client.request(mergeVerifyMutation, {
    input: { version: { ref: version.ref }, idempotencyKey: randomUUID() },
  });
  await follow(client, mergeVerify, `verify ${version.ref}`);
  const merge = (await client.request(reportsQuery, { ref: version.ref })).version?.merge;
  const verification = merge?.verification?.report;
  for (const check of merge?.report?.checks ?? [])
    say(`  ${check.passed ? "ok  " : "FAIL"} ${check.name}: ${check.detail}`);
  say(`  check ${merge?.verdict ?? "missing"}`);
  say(
    `  verdict ${verification?.verdict ?? "missing"}, ${verification?.tensors ?? 0} tensors (${since(started)})`,
  );
  if (merge?.verdict !== "PASSED" || verification?.verdict !== "IDENTICAL") {
    throw new AppError("DEMO_FAILED", `${version.ref} is not what its recipe gives.`);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const once = args.includes("--once");
  const unknown = args.find((arg) => arg !== "--once");
  if (unknown !== undefined) {
    process.stderr.write(`unknown argument ${unknown}; usage: npm run demo -- [--once]\n`);
    return 2;
  }
  const started = performance.now();
  let child: ServerProcess | null = null;
  let serving = false;
  const stop = async () => {
    // A demo that was stopped must not leave a server behind that nobody knows of.
    await child?.stop();
    if (!serving) process.exit(1);
  };
  // Ctrl-C reaches us from the terminal and once more from npm; neither may end us before the server has stopped.
  process.on("SIGTERM", stop).on("SIGINT", stop);
  say("Server");
  const settings = readSettings();
  const server = await reachServer(settings, (made) => {
    child = made;
  });
  say(`  ${server.child ? `started in ${since(started)}` : "already running"}: ${server.url}`);
  try {
    await runDemo(server);
  } catch (error) {
    server.child?.tell();
    await server.child?.stop();
    throw error;
  } finally {
    await server.client.close();
  }
  say(`\nAll of it succeeded in ${since(started)}.`);
  if (once) {
    await server.child?.stop();
    return 0;
  }
  const token = settings.adminToken === null ? join(settings.home, "admin-token") : "GRAFTWORK_ADMIN_TOKEN";
  say(`Open the console above; the token to sign in with stands in ${token}.`);
  if (server.child === null) return 0;
  say(`Serving at ${server.url} until Ctrl-C.`);
  serving = true;
  server.child.tellFromNow();
  return await server.child.ended();
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const expected = error instanceof AppError || error instanceof GraphqlFailure;
  const text = expected ? `${error.code}: ${error.message}` : String((error as Error)?.stack ?? error);
  process.stderr.write(`the demo failed: ${text}\n`);
  process.exitCode = 1;
}
