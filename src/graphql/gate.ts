import { resolveArrayConnection } from "@pothos/plugin-relay";
import { AppError } from "../core/errors.ts";
import { GATE_DTYPES, gateDigest } from "../core/evaluation/gates.ts";
import type { Gate as GateDocument, Thresholds as ThresholdsShape } from "../core/evaluation/report.ts";
import { BUILT_IN_GATES, type FoundGate, findGate, found, setGate } from "../registry/gates.ts";
import { visibleTo } from "../registry/visibility.ts";
import { builder } from "./builder.ts";
import { MergeDtype } from "./enums.ts";
import { DEFAULT_PAGE, MAX_PAGE } from "./limits.ts";
import { mutation, said } from "./payload.ts";

interface GateShape {
  readonly gate: GateDocument;
  readonly digest: string;
  /** `null`: it is built in, or a copy that an evaluation keeps. */
  readonly createdAt: Date | null;
}

const shape = ({ gate, digest, row }: FoundGate): GateShape => ({
  gate,
  digest,
  createdAt: row?.createdAt ?? null,
});

/** A gate's document out of a JSON column. */
export function readGate(document: unknown, digest?: string): GateShape {
  const gate = document as GateDocument;
  return { gate, digest: digest ?? gateDigest(gate), createdAt: null };
}

const BOUNDS = {
  maxUlp:
    "Level 1: the largest distance of a touched element from its canonical value, in units in the last place.",
  meanKld: "Level 2: the largest mean KL divergence, in nats.",
  sameTop: "Level 2: the smallest share of predictions with the same most likely token, 0 to 1.",
  perplexityRatio: "Level 2: the largest |perplexity ratio − 1|.",
  exactMatch: "Level 3: the smallest share of equal continuations, 0 to 1.",
  accuracyDrop: "Level 4: the largest loss of accuracy, 0 to 1.",
} as const satisfies Record<keyof ThresholdsShape, string>;

interface DtypeThresholds extends ThresholdsShape {
  readonly dtype: (typeof GATE_DTYPES)[number];
}

const GateThresholds = builder.objectRef<DtypeThresholds>("GateThresholds").implement({
  description: "The thresholds of a gate for one storage type; one that is null is not judged.",
  fields: (t) => {
    const bound = (name: keyof typeof BOUNDS) =>
      t.exposeFloat(name, { nullable: true, description: BOUNDS[name] });
    return {
      dtype: t.expose("dtype", {
        type: MergeDtype,
        description: "The type in which the candidate stores what the merge touched.",
      }),
      maxUlp: bound("maxUlp"),
      meanKld: bound("meanKld"),
      sameTop: bound("sameTop"),
      perplexityRatio: bound("perplexityRatio"),
      exactMatch: bound("exactMatch"),
      accuracyDrop: bound("accuracyDrop"),
    };
  },
});

export const Gate = builder.objectRef<GateShape>("Gate").implement({
  description: "Named thresholds that an evaluation's verdict rests on. A version of a gate never changes.",
  fields: (t) => ({
    name: t.string({
      description: "`owner/name`, or the plain name of a gate that comes with Graftwork.",
      resolve: ({ gate }) => gate.name,
    }),
    version: t.int({ description: "Counts from 1.", resolve: ({ gate }) => gate.version }),
    ref: t.string({
      description: "`name@version`: what `gate` fields of inputs take.",
      resolve: ({ gate }) => `${gate.name}@${gate.version}`,
    }),
    digest: t.field({
      type: "Sha256",
      description: "sha256 of the canonical JSON (RFC 8785).",
      resolve: ({ digest }) => digest,
    }),
    builtIn: t.boolean({
      description: "Whether it comes with Graftwork.",
      resolve: ({ gate }) => !gate.name.includes("/"),
    }),
    description: t.string({ description: "What it is for.", resolve: ({ gate }) => gate.description }),
    thresholds: t.field({
      type: [GateThresholds],
      description: "The thresholds, by storage type.",
      resolve: ({ gate }) => GATE_DTYPES.map((dtype) => ({ dtype, ...gate.thresholds[dtype] })),
    }),
    minimumDocuments: t.int({
      description: "With fewer documents a verdict that rests on level 2 is INCONCLUSIVE.",
      resolve: ({ gate }) => gate.minimumDocuments,
    }),
    requires: t.intList({
      description: "Levels that must have been measured for PASSED.",
      resolve: ({ gate }) => [...gate.requires],
    }),
    calibration: t.string({
      nullable: true,
      description: "How the numbers were found; null for a namespace's own.",
      resolve: ({ gate }) => gate.calibration,
    }),
    document: t.field({
      type: "JSON",
      description: "The whole gate, every field present.",
      resolve: ({ gate }) => gate,
    }),
    createdAt: t.field({
      type: "DateTime",
      nullable: true,
      description: "When it was set; null for one that comes with Graftwork, and for an evaluation's copy.",
      resolve: ({ createdAt }) => createdAt,
    }),
  }),
});

/** More gates than anybody tells apart; each is one small row. */
const MOST = 1000;

builder.queryFields((t) => ({
  gate: t.field({
    type: Gate,
    nullable: true,
    description: "A gate; null where there is none that the viewer may use.",
    args: {
      name: t.arg.string({
        required: true,
        description: "`owner/name`, or the name of one that comes with Graftwork.",
      }),
      version: t.arg.int({ description: "Which version; if not said, the newest." }),
    },
    resolve: async (_, { name, version }, context) => {
      try {
        const ref = version === null || version === undefined ? name : `${name}@${version}`;
        return shape(await findGate(context, ref, "name"));
      } catch (error) {
        if (error instanceof AppError && error.code === "NOT_FOUND") return null;
        throw error;
      }
    },
  }),
  gates: t.connection(
    {
      type: Gate,
      nullable: true,
      description:
        "The newest version of each gate that the viewer may use: those that come with Graftwork, then the namespaces', by name.",
      resolve: async (_, args, { db, viewer }) => {
        const rows = await db.gate.findMany({
          where: visibleTo(viewer).gate,
          distinct: ["namespaceId", "name"],
          orderBy: [{ namespace: { name: "asc" } }, { name: "asc" }, { version: "desc" }],
          take: MOST,
        });
        const all = [
          ...BUILT_IN_GATES.map((gate) => readGate(gate)),
          ...rows.map((row) => shape(found(row))),
        ];
        return resolveArrayConnection({ args, defaultSize: DEFAULT_PAGE, maxSize: MAX_PAGE }, all);
      },
    },
    { name: "GateConnection" },
    { name: "GateEdge" },
  ),
}));

const ThresholdsInput = builder.inputType("GateThresholdsInput", {
  description: "Thresholds for one storage type; what is left out is not judged.",
  fields: (t) => {
    const bound = (name: keyof typeof BOUNDS) => t.float({ description: BOUNDS[name] });
    return {
      maxUlp: bound("maxUlp"),
      meanKld: bound("meanKld"),
      sameTop: bound("sameTop"),
      perplexityRatio: bound("perplexityRatio"),
      exactMatch: bound("exactMatch"),
      accuracyDrop: bound("accuracyDrop"),
    };
  },
});

const DtypesInput = builder.inputType("GateDtypesInput", {
  description: "Thresholds by the type in which the candidate stores what the merge touched.",
  fields: (t) => ({
    f32: t.field({ type: ThresholdsInput, description: "Of candidates in float32." }),
    f16: t.field({ type: ThresholdsInput, description: "Of candidates in float16." }),
    bf16: t.field({ type: ThresholdsInput, description: "Of candidates in bfloat16." }),
  }),
});

const INPUT_DTYPES = { F32: "f32", F16: "f16", BF16: "bf16" } as const;

/** Where the input has what `parseGate` complains about. */
const GATE_FIELDS: Readonly<Record<string, string>> = Object.fromEntries(
  GATE_DTYPES.flatMap((dtype) =>
    ["", ...Object.keys(BOUNDS).map((name) => `.${name}`)].map((rest) => [
      `thresholds.${dtype}${rest}`,
      `thresholds.${INPUT_DTYPES[dtype]}${rest}`,
    ]),
  ),
);

mutation("gateSet", {
  description:
    "Sets a gate of a namespace: makes its next version, or answers with the newest where that says the same.",
  input: builder.inputType("GateSetInput", {
    description: "What the gate asks for.",
    fields: (t) => ({
      gate: t.string({ required: true, description: "`owner/name`." }),
      description: t.string({ description: "What it is for." }),
      thresholds: t.field({ type: DtypesInput, required: true, description: "At least one threshold." }),
      minimumDocuments: t.int({
        description: "With fewer documents a verdict that rests on level 2 is INCONCLUSIVE; if not said, 30.",
      }),
      requires: t.intList({
        description:
          "Levels (2, 3, 4) that must have been measured for PASSED; if not said, those with a threshold.",
      }),
    }),
  }),
  fields: { ...GATE_FIELDS, name: "gate" },
  resolve: async ({ gate, thresholds, ...rest }, context) => {
    const byDtype = Object.fromEntries(
      GATE_DTYPES.flatMap((dtype) => {
        const given = thresholds[INPUT_DTYPES[dtype]];
        return given ? [[dtype, said(given)]] : [];
      }),
    );
    const document = { ...said(rest), thresholds: byDtype };
    return { gate: shape(await setGate(context, { gate, document })) };
  },
  payload: (t) => ({
    gate: t.field({
      type: Gate,
      nullable: true,
      description: "The gate as it is now; null when refused.",
      resolve: ({ gate }) => (gate as GateShape | undefined) ?? null,
    }),
  }),
});
