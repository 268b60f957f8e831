import { Job } from "./job.ts";
import type { PayloadBuilder } from "./payload.ts";

export const KEY =
  "Names this request, any text: sending it again with the same input gives the same job; with other input an error.";

/** The job of a mutation that starts one. */
export const jobField = <Result extends { jobId: string }>(t: PayloadBuilder<Result>) =>
  t.prismaField({
    type: Job,
    nullable: true,
    description: "The job; null when refused.",
    resolve: (query, { jobId }, _, { db }) =>
      jobId === undefined ? null : db.job.findUnique({ ...query, where: { id: jobId as string } }),
  });
