import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient as createSocket } from "graphql-ws";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { jobEventsSubscription } from "../../src/client/documents.ts";
import { GraphqlFailure } from "../../src/client/failure.ts";
import { followJob } from "../../src/client/follow.ts";
import { type Client, createClient } from "../../src/client/index.ts";
import { MAX_SUBSCRIPTIONS } from "../../src/http/subscriptions.ts";
import { appendEvent, setProgress } from "../../src/registry/events.ts";
import { finishJob } from "../../src/registry/jobs.ts";
import { startImport } from "../../src/registry/models.ts";
import { type TestServer, testServer } from "../support/http.ts";

let server: TestServer;
let client: Client;
beforeAll(async () => {
  server = await testServer({ recheckMs: 200 });
  client = createClient({ url: server.url, token: server.token });
});
afterAll(async () => {
  await client.close();
  await server.close();
});

const newJob = async () => {
  const name = `demo/m${randomUUID().slice(0, 8)}`;
  const { id } = await startImport(server.seed.admin, { name, kind: "BASE", path: "/models/x" });
  return { id, jobId: Buffer.from(`Job:${id}`).toString("base64url") };
};
const finish = async (id: string) => {
  const claim = await server.seed.claim(id);
  await appendEvent(server.test.db, claim, { type: "stage", data: { stage: "read" } });
  await server.test.db.$transaction((tx) => finishJob(tx, claim, { now: new Date() }));
};
const events = (jobId: string, after: string | null = null, from = client) =>
  from.subscribe(jobEventsSubscription, { jobId, after });
const failureOf = async (work: Promise<unknown>): Promise<GraphqlFailure> => {
  const error = await work.then(
    () => null,
    (problem: unknown) => problem,
  );
  if (!(error instanceof GraphqlFailure)) throw new Error(`expected a failure, got ${error}`);
  return error;
};
const collect = async (
  from: AsyncIterable<{ jobEvents: { type: string; number: number; cursor: string } }>,
) => {
  const all = [];
  for await (const { jobEvents } of from) all.push(jobEvents);
  return all;
};

/** The code and reason with which a socket of the protocol closes, after `connection_init`. */
async function closing(options: {
  params?: object;
  headers?: Record<string, string>;
}): Promise<{ code: number; reason: string }> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/graphql`, "graphql-transport-ws", {
    headers: options.headers ?? {},
  });
  return await new Promise((resolve, reject) => {
    socket.on("open", () =>
      socket.send(JSON.stringify({ type: "connection_init", payload: options.params })),
    );
    socket.on("message", (data) => {
      if (JSON.parse(String(data)).type === "connection_ack") socket.close(1000, "acknowledged");
    });
    socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
    socket.on("error", reject);
  });
}

async function cookie(): Promise<string> {
  const response = await fetch(`${server.url}/session`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token: server.token }),
  });
  return response.headers
    .getSetCookie()
    .map((one) => one.split(";")[0])
    .join("; ");
}

describe("jobEvents", () => {
  it("replays what was, tails what comes, and ends with the job", async () => {
    const { id, jobId } = await newJob();
    const all = collect(events(jobId));
    await sleep(100);
    await finish(id);
    expect((await all).map(({ number, type }) => [number, type])).toEqual([
      [1, "QUEUED"],
      [2, "CLAIMED"],
      [3, "STAGE"],
      [4, "SUCCEEDED"],
    ]);
  });

  it("goes on behind a cursor, which is the one of job { events }", async () => {
    const { id, jobId } = await newJob();
    await finish(id);
    const all = await collect(events(jobId));
    for (const [i, { cursor }] of all.entries()) {
      expect((await collect(events(jobId, cursor))).map(({ number }) => number)).toEqual(
        all.slice(i + 1).map((e) => e.number),
      );
    }
    const page = await fetch(`${server.url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${server.token}` },
      body: JSON.stringify({
        query:
          "query ($id: ID!, $after: String) { job(id: $id) { events(after: $after) { edges { cursor } nodes { number } } } }",
        variables: { id: jobId, after: all[1]!.cursor },
      }),
    });
    const { data } = await page.json();
    expect(data.job.events.nodes).toEqual([{ number: 3 }, { number: 4 }]);
    expect(data.job.events.edges[0].cursor).toBe(all[2]!.cursor);
  });

  it("refuses the cursor of another job, and a job that the viewer may not see, like one that is not", async () => {
    const [a, b] = [await newJob(), await newJob()];
    await finish(a.id);
    const [first] = await collect(events(a.jobId));
    expect((await failureOf(collect(events(b.jobId, first!.cursor)))).code).toBe("BAD_USER_INPUT");
    const stranger = createClient({ url: server.url });
    const hidden = await failureOf(collect(events(a.jobId, null, stranger)));
    const unknown = Buffer.from(`Job:${randomUUID()}`).toString("base64url");
    const missing = await failureOf(collect(events(unknown, null, stranger)));
    await stranger.close();
    expect(hidden.errors[0]!.extensions).toMatchObject({ code: "BAD_USER_INPUT", reason: "NOT_FOUND" });
    expect(hidden.message.replace(a.jobId, unknown)).toBe(missing.message);
  });

  it("leaves nothing behind on the server when its reader goes", async () => {
    const { jobId } = await newJob();
    const stop = new AbortController();
    const seen = [];
    for await (const { jobEvents } of client.subscribe(
      jobEventsSubscription,
      { jobId },
      { signal: stop.signal },
    )) {
      seen.push(jobEvents.number);
      stop.abort();
    }
    expect(seen).toEqual([1]);
    await expect.poll(() => server.test.pool.totalCount - server.test.pool.idleCount).toBe(0);
  });
});

describe("a socket", () => {
  it("is for whoever its token or its cookie says", async () => {
    expect(await closing({ params: { token: server.token } })).toEqual({
      code: 1000,
      reason: "acknowledged",
    });
    expect(await closing({})).toEqual({ code: 1000, reason: "acknowledged" });
    const wrong = await closing({ params: { token: "wrong" } });
    expect(wrong).toEqual({ code: 4403, reason: expect.stringContaining("token") });
    const own = { cookie: await cookie(), origin: server.url };
    expect((await closing({ headers: own })).code).toBe(1000);
  });

  it("does not take the cookie from a page of another site", async () => {
    const { code } = await closing({ headers: { cookie: await cookie(), origin: "https://evil.example" } });
    expect(code).toBe(4403);
  });

  it("is closed soon after its session has ended", async () => {
    const headers = { cookie: await cookie(), origin: server.url };
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/graphql`, "graphql-transport-ws", {
      headers,
    });
    const closed = new Promise<number>((resolve) => socket.on("close", resolve));
    socket.on("open", () => socket.send(JSON.stringify({ type: "connection_init" })));
    await new Promise((resolve) => socket.once("message", resolve));
    await server.test.db.session.deleteMany();
    expect(await closed).toBe(4403);
  });

  it("follows no more than so many things at once", async () => {
    const { id, jobId } = await newJob();
    const socket = createSocket({
      url: `${server.url.replace("http", "ws")}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { token: server.token },
      retryAttempts: 0,
    });
    const refused: unknown[] = [];
    const replayed: number[] = [];
    for (let i = 0; i <= MAX_SUBSCRIPTIONS; i += 1) {
      socket.subscribe(
        { query: jobEventsSubscription.text, variables: { jobId } },
        { next: () => replayed.push(1), error: (error) => refused.push(error), complete: () => {} },
      );
    }
    await expect.poll(() => [refused.length, replayed.length]).toEqual([1, MAX_SUBSCRIPTIONS]);
    expect(refused[0]).toMatchObject([{ extensions: { code: "LIMIT_EXCEEDED" } }]);
    await finish(id);
    await socket.dispose();
  });

  it("takes queries, but no mutations, and holds the limits of a request", async () => {
    const over = (query: string) => client.subscribe({ text: query, name: "X", kind: "query" }, {}).next();
    expect(await over("query X { viewer { name } }")).toMatchObject({ value: { viewer: { name: "admin" } } });
    const mutation = await failureOf(
      over('mutation X { jobCancel(input: { job: "x" }) { userErrors { code } } }'),
    );
    expect(mutation.code).toBe("BAD_REQUEST");
    const aliases = Array.from({ length: 31 }, (_, i) => `a${i}: name`).join(" ");
    expect((await failureOf(over(`query X { viewer { ${aliases} } }`))).code).toBe("LIMIT_EXCEEDED");
    expect((await failureOf(over("query X { nothing }"))).code).toBe("GRAPHQL_VALIDATION_FAILED");
  });

  it("is opened at /graphql only", async () => {
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/other`, "graphql-transport-ws");
    const error = await new Promise<Error>((resolve) => socket.on("error", resolve));
    expect(error.message).toContain("404");
  });
});

describe("following a job", () => {
  it("gives every event once and in order although the connection breaks, and progress in between", async () => {
    const { id, jobId } = await newJob();
    const sockets: InstanceType<typeof globalThis.WebSocket>[] = [];
    class Counted extends globalThis.WebSocket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        sockets.push(this);
      }
    }
    const shaky = createClient({ url: server.url, token: server.token, WebSocket: Counted });
    const claim = await server.seed.claim(id);
    const seen: number[] = [];
    const fractions: (number | null | undefined)[] = [];
    const following = followJob(shaky, jobId, { progressEvery: 50 });
    const steps = (async () => {
      for (const done of [1, 2, 3, 4]) {
        await appendEvent(server.test.db, claim, { type: "stage", data: { done } });
        await setProgress(server.test.db, claim, { stage: "merge", done, total: 4 });
        await sleep(200);
        sockets.at(-1)?.close();
      }
      await sleep(100);
      await server.test.db.$transaction((tx) => finishJob(tx, claim, { now: new Date() }));
    })();
    let step = await following.next();
    for (; !step.done; step = await following.next()) {
      if (step.value.event) seen.push(step.value.event.number);
      else fractions.push(step.value.job.progress?.fraction);
    }
    await steps;
    await shaky.close();
    expect(step.value).toMatchObject({ state: "SUCCEEDED" });
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(sockets.length).toBeGreaterThan(2);
    expect(fractions).toContain(0.5);
  });

  it("ends at once for a job that has ended", async () => {
    const { id, jobId } = await newJob();
    await finish(id);
    const seen = [];
    const following = followJob(client, jobId);
    let step = await following.next();
    for (; !step.done; step = await following.next()) if (step.value.event) seen.push(step.value.event.type);
    expect(seen.at(-1)).toBe("SUCCEEDED");
    expect(step.value.state).toBe("SUCCEEDED");
  });

  it("says so when there is no such job, no server, or no patience left", async () => {
    const unknown = Buffer.from(`Job:${randomUUID()}`).toString("base64url");
    expect((await failureOf(followJob(client, unknown).next())).code).toBe("NOT_FOUND");
    const nowhere = createClient({ url: "http://127.0.0.1:9" });
    const failure = await failureOf(followJob(nowhere, unknown).next());
    expect(failure).toMatchObject({
      code: "UNREACHABLE",
      message: expect.stringContaining("http://127.0.0.1:9"),
    });
    const { jobId } = await newJob();
    const stop = new AbortController();
    const following = followJob(client, jobId, { signal: stop.signal });
    await following.next();
    setTimeout(() => stop.abort(), 50);
    const rest = (async () => {
      for await (const _ of following);
    })();
    expect((await failureOf(rest)).code).toBe("ABORTED");
  });
});
