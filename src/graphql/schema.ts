import type { GraphQLSchema } from "graphql";
import { builder } from "./builder.ts";
import "./scalars.ts";
import "./account.ts";
import "./model.ts";
import "./version.ts";
import "./tensor.ts";
import "./lineage.ts";
import "./device.ts";
import "./merge.ts";
import "./gate.ts";
import "./evaluation.ts";
import "./serving-advice.ts";
import "./job.ts";
import "./job-events.ts";
import "./plan.ts";
import "./compatibility.ts";
import "./mutations.ts";
import "./evaluation-start.ts";
import "./evaluation-compare.ts";
import "./serving-advice-start.ts";

builder.queryType({ description: "What can be asked." });
builder.mutationType({ description: "What can be done; each answers with its result and `userErrors`." });

/** The schema, its types and fields in alphabetical order, so that a change of code moves nothing else. */
export const schema: GraphQLSchema = builder.toSchema({ sortSchema: true });
