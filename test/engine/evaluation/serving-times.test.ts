import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { finish } from "../../../src/engine/digest.ts";
import { locateReference } from "../../../src/engine/evaluation/local.ts";
import { type TimesRequest, timeServing } from "../../../src/engine/evaluation/serving-times.ts";

const DEMO = join(import.meta.dirname, "../../fixtures/demo");
const OPTIONS = { threads: 1 };

let request: TimesRequest;
beforeAll(async () => {
  const adapters = [{ folder: join(DEMO, "adapters/sentiment"), weight: 1 }];
  const found = await finish(locateReference({ base: join(DEMO, "base"), adapters }, OPTIONS));
  const choices = { tokenizer: null, weights: [1] };
  request = { base: found.base, sources: found.sources, merged: null, choices, device: "cpu" };
});

describe("timing both ways of serving", () => {
  it("keeps no more weights in memory than it may, and says where tokens read them again", async () => {
    const { times } = await finish(timeServing(request, OPTIONS));
    expect(times).toMatchObject({ weightsKept: true, standIn: true });
    const tight = await finish(timeServing({ ...request, keep: 0 }, OPTIONS));
    expect(tight.times).toMatchObject({ weightsKept: false, newTokens: times!.newTokens });
  });
});
