import { describe, expect, test } from "vitest";
import { formatRoute, HOME, parseRoute, type Route, versionRoute } from "../../web/src/router.ts";

const ROUTES: [string, Route][] = [
  ["/models", HOME],
  ["/models?kind=ADAPTER&after=b3BhcXVl", { page: "models", kind: "ADAPTER", after: "b3BhcXVl" }],
  ["/models/demo/base@7", versionRoute("demo/base@7")],
  ["/models/demo/base@7?tab=lineage", versionRoute("demo/base@7", "lineage")],
  [
    "/models/demo/base@sha256:ab?tab=tensors&after=eA%3D%3D",
    { page: "version", ref: "demo/base@sha256:ab", tab: "tensors", after: "eA==" },
  ],
  [
    "/merge?base=demo%2Fbase%401&adapter=demo%2Fa%402&output=demo%2Fm",
    { page: "merge", base: "demo/base@1", adapter: "demo/a@2", output: "demo/m" },
  ],
  [
    "/merge?base=b%2Fb&adapter=a%2Fa&dtype=F32&include=q_proj&layers=0-3",
    {
      page: "merge",
      base: "b/b",
      adapter: "a/a",
      output: "",
      dtype: "F32",
      include: "q_proj",
      layers: "0-3",
    },
  ],
  [
    "/merge?base=b%2Fb&adapter=a%2Fa&gate=demo%2Fstrict",
    { page: "merge", base: "b/b", adapter: "a/a", output: "", gate: "demo/strict" },
  ],
  ["/merge", { page: "merge", base: "", adapter: "", output: "" }],
  ["/import", { page: "import" }],
  ["/jobs/0199b1c2-7a10-7000-8000-000000000000", { page: "job", id: "0199b1c2-7a10-7000-8000-000000000000" }],
  ["/signin?next=%2Fmerge%3Fbase%3Ddemo%252Fb", { page: "signin", next: "/merge?base=demo%2Fb" }],
  ["/nothing/here", { page: "missing", path: "/nothing/here" }],
];

describe("the console's addresses", () => {
  test("ignore a value that an option of a merge does not have", () => {
    expect(parseRoute("/merge?base=b%2Fb&dtype=I8&numerics=FAST&ties=X&include=q")).toEqual({
      page: "merge",
      base: "b/b",
      adapter: "",
      output: "",
      include: "q",
    });
  });

  test.each(ROUTES)("%s is one route and back", (address, route) => {
    expect(parseRoute(address)).toEqual(route);
    expect(formatRoute(route)).toBe(address);
  });

  test("the root shows the models", () => {
    expect(parseRoute("/")).toEqual(HOME);
  });

  test("an unknown kind or tab in a link falls back instead of failing", () => {
    expect(parseRoute("/models?kind=TREE")).toEqual(HOME);
    expect(parseRoute("/models/a/b?tab=nope")).toEqual(versionRoute("a/b"));
  });

  test.each(["https://evil.example/x", "//evil.example/x", "/\\evil.example/x", "javascript:alert(1)"])(
    "a sign-in link does not send people on to %s",
    (next) => {
      const route = parseRoute(`/signin?next=${encodeURIComponent(next)}`);
      expect(route).toEqual({ page: "signin", next: null });
    },
  );

  test("a malformed escape in a path is shown as it is", () => {
    expect(parseRoute("/jobs/%E0%A4%A")).toEqual({ page: "job", id: "%E0%A4%A" });
  });
});
