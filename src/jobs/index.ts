import { adviseServing } from "../engine/evaluation/advice.ts";
import { evaluate } from "../engine/evaluation/evaluate.ts";
import { importVersion } from "./import-version.ts";
import type { JobDefinition } from "./job.ts";
import { servingJob } from "./measure-serving.ts";
import { evaluationJob } from "./run-evaluation.ts";
import { runMerge } from "./run-merge.ts";
import { verifyMerge } from "./verify-merge.ts";

/** Every kind of job that a worker does. */
export const JOBS: readonly JobDefinition[] = [
  importVersion,
  runMerge,
  verifyMerge,
  evaluationJob(evaluate),
  servingJob(adviseServing),
];
