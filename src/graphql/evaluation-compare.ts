import {
  type EvaluationComparison as ComparisonShape,
  compareEvaluations,
  type ComparedNumber as NumberShape,
} from "../core/evaluation/compare.ts";
import { notFound } from "../registry/context.ts";
import { readReport } from "../registry/evaluation-reports.ts";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { EvaluationVerdict } from "./enums.ts";
import { Evaluation, evaluationRow } from "./evaluation.ts";
import { Metric } from "./evaluation-report.ts";
import { Finding } from "./finding.ts";

interface Pair extends ComparisonShape {
  readonly ids: { readonly a: string; readonly b: string };
}

const ComparedNumber = builder.objectRef<NumberShape>("ComparedNumber").implement({
  description: "A number of two evaluations, side by side.",
  fields: (t) => ({
    key: t.exposeString("key", {
      description: "Stable name; that of the gate's threshold where it has one: meanKld, sameTop, …",
    }),
    level: t.exposeInt("level", { description: "1 weights, 2 logits, 3 text, 4 tasks." }),
    label: t.exposeString("label", { description: "What it is, for people." }),
    share: t.boolean({
      description: "Whether it is a share, to be written in percent.",
      resolve: ({ form }) => form === "share",
    }),
    a: t.expose("a", { type: Metric, nullable: true, description: "Of the first; null if not measured." }),
    b: t.expose("b", { type: Metric, nullable: true, description: "Of the second; null if not measured." }),
    difference: t.exposeFloat("difference", {
      nullable: true,
      description: "Second less first; null unless both have it.",
    }),
    overlap: t.exposeBoolean("overlap", {
      nullable: true,
      description: "Whether their 95 % intervals have a number in common; null unless both have one.",
    }),
  }),
});

const SameParts = builder.objectRef<ComparisonShape["same"]>("SameParts").implement({
  description: "Which parts of two evaluations are the same, by digest; null where that is not known.",
  fields: (t) => ({
    reference: t.exposeBoolean("reference", {
      nullable: true,
      description: "Base, adapters and their weights.",
    }),
    candidate: t.exposeBoolean("candidate", { nullable: true, description: "What was judged." }),
    texts: t.exposeBoolean("texts", { nullable: true, description: "What both sides ran over." }),
    gate: t.exposeBoolean("gate", { description: "The gate." }),
  }),
});

const EvaluationComparison = builder.objectRef<Pair>("EvaluationComparison").implement({
  description: "Two evaluations side by side.",
  fields: (t) => {
    const side = (name: "a" | "b", which: string) =>
      t.prismaField({
        type: Evaluation,
        nullable: true,
        description: `The ${which} evaluation.`,
        resolve: (query, { ids }, _, { db }) =>
          db.evaluation.findUnique({ ...query, where: { id: ids[name] } }),
      });
    const verdict = (name: "a" | "b", which: string) =>
      t.field({
        type: EvaluationVerdict,
        description: `What the ${which} says.`,
        resolve: ({ verdicts }) => verdicts[name],
      });
    return {
      a: side("a", "first"),
      b: side("b", "second"),
      verdictA: verdict("a", "first"),
      verdictB: verdict("b", "second"),
      same: t.expose("same", { type: SameParts, description: "What the two have in common." }),
      warnings: t.field({
        type: [Finding],
        description: "Why differences of the numbers may not be differences of the candidates.",
        resolve: ({ warnings }) => [...warnings],
      }),
      numbers: t.field({
        type: [ComparedNumber],
        description: "Each number with its difference, by level.",
        resolve: ({ numbers }) => [...numbers],
      }),
    };
  },
});

builder.queryField("evaluationCompare", (t) =>
  t.field({
    type: EvaluationComparison,
    nullable: true,
    description: "Two evaluations that have a report, side by side.",
    args: {
      a: t.arg.id({ required: true, description: "An id of an Evaluation." }),
      b: t.arg.id({ required: true, description: "Another one." }),
    },
    resolve: async (_, args, context) => {
      const [a, b] = await Promise.all([load(context, args.a, "a"), load(context, args.b, "b")]);
      return { ...compareEvaluations(a.report, b.report), ids: { a: a.id, b: b.id } };
    },
  }),
);

async function load(context: GraphContext, text: string, field: string) {
  const id = evaluationRow(text);
  if (id === null) throw notFound("The evaluation", field);
  return { id, report: await readReport(context, id, field) };
}
