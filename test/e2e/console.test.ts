import { existsSync } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { modelImportMutation, versionQuery } from "../../src/client/documents.ts";
import { followJob } from "../../src/client/follow.ts";
import { type Client, createClient } from "../../src/client/index.ts";
import { generateLlama } from "../bench/llama.ts";
import { type Browser, collectComplaints, openBrowser } from "../support/browser.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { requirement } from "../support/require.ts";
import { type ServerProcess, startServerProcess } from "../support/server.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const DEMO = join(ROOT, "test/fixtures/demo");
const TOKEN = "gw_end-to-end-test-token-0123456789";

/** Flips one bit of a tensor in a safetensors file; the function it returns flips it back. */
async function flipBit(path: string, tensor: string): Promise<() => Promise<void>> {
  const flip = async () => {
    const file = await open(path, "r+");
    try {
      const length = Buffer.alloc(8);
      await file.read(length, 0, 8, 0);
      const header = Buffer.alloc(Number(length.readBigUInt64LE()));
      await file.read(header, 0, header.length, 8);
      const position = 8 + header.length + JSON.parse(header.toString())[tensor].data_offsets[0];
      const byte = Buffer.alloc(1);
      await file.read(byte, 0, 1, position);
      await file.write(Buffer.from([byte[0]! ^ 1]), 0, 1, position);
    } finally {
      await file.close();
    }
  };
  await flip();
  return flip;
}

describe.skipIf(!requirement("browser"))("the console in a real browser", () => {
  let database: TestDatabase;
  let home: string;
  let server: ServerProcess;
  let client: Client;
  let browser: Browser;
  let page: Page;
  let complaints: string[];

  beforeAll(async () => {
    if (!existsSync(join(ROOT, "web/dist/index.html"))) {
      throw new Error("web/dist is missing: run `npm test`, which builds the console, or `npm run setup`.");
    }
    database = await testDatabase();
    home = await mkdtemp(join(tmpdir(), "graftwork-e2e-"));
    server = await startServerProcess(settings());
    client = createClient({ url: server.url, token: TOKEN });
    await importModel({ folder: join(DEMO, "base"), model: "demo/base" });
    const base = "demo/base@1";
    await importModel({ folder: join(DEMO, "adapters/sentiment"), model: "demo/sentiment", base });
    browser = await openBrowser({ viewport: { width: 1280, height: 900 } });
    page = await browser.context.newPage();
    complaints = collectComplaints(page);
  });

  afterAll(async () => {
    await browser?.close();
    await client?.close();
    await server?.stop();
    await database?.close();
    if (home) await rm(home, { recursive: true, force: true });
  });

  const settings = () => ({
    DATABASE_URL: database.url,
    GRAFTWORK_HOME: home,
    GRAFTWORK_ADMIN_TOKEN: TOKEN,
    GRAFTWORK_IMPORT_ROOTS: [DEMO, home].join(delimiter),
    // A merge that takes a moment is what a progress bar is for.
    GRAFTWORK_THREADS: "1",
  });

  async function importModel(what: { folder: string; model: string; base?: string }): Promise<void> {
    const { modelImport } = await client.request(modelImportMutation, {
      input: {
        source: { local: what.folder },
        model: what.model,
        ...(what.base && { base: { ref: what.base } }),
        idempotencyKey: `import ${what.model}`,
      },
    });
    expect(modelImport.userErrors).toEqual([]);
    const updates = followJob(client, modelImport.job!.id);
    for (;;) {
      const { done, value } = await updates.next();
      if (!done) continue;
      expect(value.error).toBeNull();
      return;
    }
  }

  const main = () => page.locator("main");

  test("refuses a wrong token, says where the right one is, and lets the right one in", async () => {
    await page.goto(`${server.url}/`);
    await page.getByRole("banner").getByRole("link", { name: "Sign in" }).click();
    await page.getByText("admin-token", { exact: false }).first().waitFor();
    await page.getByLabel("API token").fill("gw_not-a-token-that-anybody-has");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator(".problem").waitFor();
    // The refused sign-in is the one complaint that belongs here: 401, and Chromium's line about it.
    expect(complaints.filter((line) => !/401/.test(line))).toEqual([]);
    complaints.length = 0;

    await page.getByLabel("API token").fill(TOKEN);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Signed in as admin").waitFor();
    const cookies = await browser.context.cookies();
    expect(cookies.filter((c) => c.httpOnly && c.sameSite === "Strict")).not.toEqual([]);
    expect(await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie)).not.toContain(
      TOKEN,
    );
  });

  test("lists the models and keeps the filter in the address", async () => {
    await main().getByRole("link", { name: "demo/base", exact: true }).waitFor();
    await main().getByRole("link", { name: "Adapter", exact: true }).click();
    await expect.poll(() => main().locator("tbody tr").count()).toBe(1);
    expect(new URL(page.url()).search).toBe("?kind=ADAPTER");
    await main().getByRole("link", { name: "demo/sentiment", exact: true }).waitFor();
    await page.goBack();
    await expect.poll(() => main().locator("tbody tr").count()).toBe(2);
  });

  test("shows a version, plans a merge, runs it with live progress and ends at its lineage", async () => {
    await main().getByRole("link", { name: "demo/base", exact: true }).click();
    await page.getByRole("heading", { name: "demo/base@1" }).waitFor();
    await main().getByText("LlamaForCausalLM").first().waitFor();
    await main().getByRole("link", { name: "Merge", exact: true }).click();

    await page.getByRole("combobox", { name: "Adapter" }).selectOption("demo/sentiment@1");
    await page.getByRole("heading", { name: "Plan" }).waitFor();
    await main().getByText("42 of 56 change").waitFor();
    expect(await page.getByLabel("Name of the result").inputValue()).toBe("demo/base-sentiment");
    await page.getByRole("button", { name: "Start merge" }).click();

    await page.waitForURL(/\/jobs\/.+/);
    await main().locator(".events li").first().waitFor();
    await main().getByRole("heading", { name: /^Done/ }).waitFor();
    const before = await main().locator(".events li").allInnerTexts();
    expect(before.length).toBeGreaterThanOrEqual(4);

    await page.reload();
    await main().getByRole("heading", { name: /^Done/ }).waitFor();
    await expect.poll(() => main().locator(".events li").allInnerTexts()).toEqual(before);

    await main().getByRole("link", { name: "Lineage" }).click();
    await page.getByRole("heading", { name: "demo/base-sentiment@1" }).waitFor();
    const graph = page.getByRole("region", { name: /^Lineage graph/ });
    await graph.getByRole("link", { name: /^demo\/sentiment@1/ }).waitFor();
    expect(await graph.getByRole("link").count()).toBe(3);
    expect((await graph.locator(".edge-label").allTextContents()).sort()).toEqual([
      "adapter × 1",
      "base",
      "trained on",
    ]);
    expect(await main().locator(".tree li").count()).toBe(4);
  });

  test("works by keyboard: a node of the graph takes the focus and opens with Enter", async () => {
    const node = page
      .getByRole("region", { name: /^Lineage graph/ })
      .getByRole("link", { name: /^demo\/base@1/ });
    await node.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "demo/base@1" }).waitFor();
    expect(new URL(page.url()).pathname).toBe("/models/demo/base@1");
  });

  test("opens an address that ends like a file, as names of models may", async () => {
    await page.goto(`${server.url}/models/demo/nothing-1.5`);
    await main().getByText("There is no version demo/nothing-1.5").waitFor();
  });

  test("shows tensors and the recipe of the merge", async () => {
    await page.goto(`${server.url}/models/demo/base-sentiment@1?tab=tensors`);
    await main().getByText("50 of 56 tensors").waitFor();
    await main().getByRole("link", { name: "Next page" }).click();
    await expect.poll(() => main().locator("tbody tr").count()).toBe(6);
    await main().getByRole("link", { name: "Recipe", exact: true }).click();
    await main().getByText('"numerics": "peft-1"').waitFor();
    await main().getByText("mergeStart(input").waitFor();
  });

  test("verifies a merge on its page, also after a reload, and names the tensor that was changed since", async () => {
    const address = `${server.url}/models/demo/base-sentiment@1`;
    await page.goto(address);
    const proof = page.getByRole("region", { name: "Proof" });
    await proof.getByText("Not verified since it was merged.").waitFor();
    await proof.getByText("Untouched tensors are identical").waitFor();
    await proof.getByRole("button", { name: "Verify", exact: true }).click();
    await proof.getByRole("heading", { name: "IDENTICAL" }).waitFor();
    await proof.getByText("all 56 tensors").waitFor();
    await page.reload();
    await proof.getByRole("heading", { name: "IDENTICAL" }).waitFor();
    await proof.getByText(/^Verified (just now|\d+ seconds ago)$/).waitFor();
    await main().getByText("✓ Verified").waitFor();

    const { version } = await client.request(versionQuery, { ref: "demo/base-sentiment@1" });
    const name = "model.layers.1.mlp.up_proj.weight";
    const restore = await flipBit(join(version!.location!, "model.safetensors"), name);
    await proof.getByRole("button", { name: "Verify again" }).click();
    await proof.getByRole("heading", { name: "DIFFERENT: 1 difference" }).waitFor();
    expect(await proof.getByRole("list", { name: "Differences" }).innerText()).toContain(
      `${name} was changed on disk`,
    );
    await main().getByText("✗ Differs").waitFor();
    await restore();
    await proof.getByRole("button", { name: "Verify again" }).click();
    await proof.getByRole("heading", { name: "IDENTICAL" }).waitFor();
    await main().getByText("✓ Verified").waitFor();
  });

  test("merges with options, says what they leave out or miss, and its recipe gives them again", async () => {
    await page.goto(`${server.url}/merge?base=demo%2Fbase%401&adapter=demo%2Fsentiment%401&dtype=I8`);
    await main().getByText("42 of 56 change").waitFor();
    await main().getByText("Options", { exact: true }).click();
    await page.getByRole("combobox", { name: "Storage type" }).selectOption("F32");
    const layers = page.getByLabel("Merge only these layers");
    await layers.fill("3-1");
    await main().getByText("Correct the option that is marked").waitFor();
    await main().getByText("Write layer numbers and ranges").waitFor();
    await layers.fill("0-1");
    await page.getByLabel("Leave these modules out").fill("q_proj, v_porj");
    await main().getByText("12 of 56 change").waitFor();
    await main().getByText("30 adapted modules stay as in the base").waitFor();
    await main().getByText("exclude names what the adapter does not change (v_porj)").waitFor();

    // Clearing every option leaves the form open.
    await page.getByRole("combobox", { name: "Storage type" }).selectOption("");
    await page.getByLabel("Leave these modules out").fill("");
    await layers.fill("");
    await main().getByText("42 of 56 change").waitFor();
    expect(await layers.isVisible()).toBe(true);
    await layers.fill("0-1");
    await page.getByLabel("Leave these modules out").fill("q_proj");
    await page.getByRole("combobox", { name: "Storage type" }).selectOption("F32");
    await main().getByText("12 of 56 change").waitFor();
    await page.getByLabel("Name of the result").fill("demo/partial");
    await page.getByRole("combobox", { name: "Evaluate the result" }).selectOption("default");
    await page.locator('button:not([aria-disabled="true"])', { hasText: "Start merge" }).click();
    await main().getByRole("heading", { name: /^Done/ }).waitFor();
    // Its evaluation has followed by itself; what it finds is not this test's business.
    await main().getByText("valuation under the gate default@1").waitFor();
    await main().getByRole("link", { name: "Follow it" }).click();
    await main().getByRole("heading", { name: "Evaluation of demo/partial@1" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await main().getByRole("heading", { name: "Cancelled" }).waitFor();

    await page.goto(`${server.url}/models/demo/partial@1?tab=recipe`);
    await main().getByText("mergeStart(input").waitFor();
    const commands = await main().locator("pre").allInnerTexts();
    expect(commands.join("\n")).toContain("--dtype fp32 \\\n  --include-layers 0,1 \\\n  --exclude q_proj");
    expect(commands.join("\n")).toContain(
      'choices: { dtype: F32, include: { layers: [0,1] }, exclude: { modules: ["q_proj"] } }',
    );
  });

  test("follows an import that it started, and says why one was refused", async () => {
    await page.goto(`${server.url}/import`);
    await page.getByLabel("Name").fill("demo/light-touch");
    await page.getByLabel("Folder on the server").fill(join(DEMO, "adapters/light-touch"));
    await page.getByLabel("Base (for an adapter)").selectOption("demo/base@1");
    await page.getByRole("button", { name: "Import" }).click();
    await main().getByRole("heading", { name: "Done" }).waitFor();

    await page.goto(`${server.url}/import`);
    await page.getByLabel("Name").fill("demo/outside");
    await page.getByLabel("Folder on the server").fill("/etc");
    await page.getByRole("button", { name: "Import" }).click();
    await main().getByText("PATH_OUTSIDE_ROOTS").first().waitFor();
  });

  describe("while a merge of some hundred megabytes runs", () => {
    const address = "/merge?base=big%2Fbase%401&adapter=big%2Fadapter%401&output=big%2Fmerged";

    beforeAll(async () => {
      const folder = join(home, "generated");
      await generateLlama(folder, { layers: 3, shards: 2, rank: 512 });
      await importModel({ folder: join(folder, "base"), model: "big/base" });
      await importModel({ folder: join(folder, "adapter"), model: "big/adapter", base: "big/base@1" });
    });

    async function start(tab: Page): Promise<void> {
      await tab.goto(server.url + address);
      await tab.locator('button:not([aria-disabled="true"])', { hasText: "Start merge" }).click();
      await tab.waitForURL(/\/jobs\/.+/);
    }

    /** The bar with a length, and the bytes below it. */
    async function seeProgress(tab: Page): Promise<void> {
      await tab.locator("progress[value]").waitFor();
      await tab.getByText(/^[\d.]+ k?M?B of [\d.]+ MB$/).waitFor();
    }

    test("shows how far it is, and stops it when asked", async () => {
      await start(page);
      await seeProgress(page);
      await page.getByRole("button", { name: "Cancel" }).click();
      await main().getByRole("heading", { name: "Cancelled" }).waitFor();
      await expect.poll(() => main().locator(".events li").last().innerText()).toContain("Cancelled");
    });

    test("goes on showing it after a reload, and after a restart of the server", async () => {
      const tab = await browser.context.newPage();
      await start(tab);
      await seeProgress(tab);
      await tab.reload();
      await seeProgress(tab);

      const { port } = new URL(server.url);
      await server.stop();
      await tab.getByRole("heading", { name: "The server does not answer" }).waitFor();
      server = await startServerProcess({ ...settings(), PORT: port });
      await tab.getByRole("heading", { name: "Done" }).waitFor();
      const events = tab.locator(".events li");
      await expect.poll(() => events.last().innerText()).toContain("Succeeded");
      const numbers = (await events.locator(".seq").allInnerTexts()).map(Number);
      expect(numbers).toEqual(numbers.map((_, i) => i + 1));
      expect((await events.allInnerTexts()).filter((text) => text.includes("Retrying"))).toHaveLength(1);
      await tab.close();
    });
  });

  test.each([
    [1280, "light"],
    [640, "dark"],
    [390, "light"],
  ] as const)("fits a window %i pixels wide in %s colours", async (width, colorScheme) => {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    for (const path of [
      "/models",
      "/models/demo/base-sentiment@1",
      "/models/demo/base-sentiment@1?tab=lineage",
      "/models/demo/partial@1?tab=recipe",
      "/models/demo/sentiment@1",
      "/merge?base=demo%2Fbase%401&adapter=demo%2Fsentiment%401&dtype=F32&exclude=q_proj%2Cnothing&layers=0-1",
      "/import",
    ]) {
      await page.goto(server.url + path);
      await main().locator("h1").waitFor();
      await expect.poll(() => main().getByText("Loading").count()).toBe(0);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(wider, `${path} at ${width} pixels`).toBeLessThanOrEqual(0);
    }
  });

  test("asks to sign in again when the session has ended, and goes on at the same place", async () => {
    const address = "/models/demo/base-sentiment@1?tab=tensors";
    await page.goto(`${server.url}/models/demo/base-sentiment@1`);
    await main().getByRole("link", { name: "Tensors", exact: true }).waitFor();
    await endSession();
    await main().getByRole("link", { name: "Tensors", exact: true }).click();
    await page.getByRole("heading", { name: "Your session has ended" }).waitFor();
    expect(page.url()).toBe(server.url + address);
    await page.getByLabel("API token").fill(TOKEN);
    await page.keyboard.press("Enter");
    await main().getByText("50 of 56 tensors").waitFor();
    expect(page.url()).toBe(server.url + address);
  });

  /** As another window would: the server forgets the session, this browser does not know. */
  async function endSession(): Promise<void> {
    const cookies = await browser.context.cookies();
    const response = await fetch(`${server.url}/session`, {
      method: "DELETE",
      headers: {
        cookie: cookies.map(({ name, value }) => `${name}=${value}`).join("; "),
        "x-csrf-token": cookies.find(({ name }) => name === "graftwork_csrf")!.value,
      },
    });
    expect(response.status).toBe(204);
  }

  test("signs out, after which private models are gone", async () => {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.goto(`${server.url}/models/demo/base@1`);
    await page.getByRole("heading", { name: "Nothing here" }).waitFor();
  });

  test("nothing on the way broke a script, a request or the Content-Security-Policy", async () => {
    const response = await fetch(server.url);
    expect(response.headers.get("content-security-policy")).toMatch(/script-src[^;]*'self'/);
    expect(response.headers.get("content-security-policy")).not.toMatch(/unsafe-/);
    expect(complaints).toEqual([]);
  });
});
