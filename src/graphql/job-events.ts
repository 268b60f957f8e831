import type { PageInfoShape } from "@pothos/plugin-relay";
import { notFound } from "../registry/context.ts";
import { type StoredEvent, type JobEventType as StoredType, tailEvents } from "../registry/events.ts";
import { canSee } from "../registry/visibility.ts";
import { builder, decodeId } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { JobEventType } from "./enums.ts";
import { badUserInput } from "./errors.ts";
import { openCursor, sealCursor } from "./guard.ts";
import { Job } from "./job.ts";
import { DEFAULT_PAGE } from "./limits.ts";
import { pageInfo } from "./page.ts";

/** The list whose cursors `Job.events` and `Subscription.jobEvents` share. */
const LIST = "Job.events";

const TYPES = {
  queued: "QUEUED",
  claimed: "CLAIMED",
  stage: "STAGE",
  "progress-note": "PROGRESS_NOTE",
  warning: "WARNING",
  retrying: "RETRYING",
  succeeded: "SUCCEEDED",
  failed: "FAILED",
  cancelled: "CANCELLED",
} as const satisfies Record<StoredType, string>;

const key = ({ jobId, number }: StoredEvent) => `${jobId}:${number}`;

const JobEvent = builder.objectRef<StoredEvent>("JobEvent").implement({
  description: "Something that happened to a job.",
  fields: (t) => ({
    cursor: t.string({
      description: "Its place, for `after` of Job.events and of Subscription.jobEvents alike.",
      resolve: (event) => sealCursor(LIST, key(event)),
    }),
    number: t.exposeInt("number", { description: "Counts from 1 within the job, without gaps." }),
    type: t.field({
      type: JobEventType,
      description: "What happened.",
      resolve: ({ type }) => TYPES[type as StoredType],
    }),
    at: t.expose("at", { type: "DateTime", description: "When." }),
    data: t.field({
      type: "JSON",
      description: "What there is to say about it, by its type.",
      resolve: ({ data }) => data,
    }),
    job: t.prismaField({
      type: Job,
      nullable: true,
      description: "The job as it is now.",
      resolve: (query, { jobId }, _, { db }) => db.job.findUnique({ ...query, where: { id: jobId } }),
    }),
  }),
});

interface EdgeShape {
  readonly cursor: string;
  readonly node: StoredEvent;
}

const JobEventEdge = builder.objectRef<EdgeShape>("JobEventEdge").implement({
  description: "An event, with its place.",
  fields: (t) => ({
    cursor: t.exposeString("cursor", { description: "Its place, for `after`." }),
    node: t.expose("node", { type: JobEvent, nullable: true, description: "The event." }),
  }),
});

const JobEventConnection = builder
  .objectRef<{ edges: readonly EdgeShape[]; pageInfo: PageInfoShape }>("JobEventConnection")
  .implement({
    description: "A page of events, in the order in which they happened.",
    fields: (t) => ({
      edges: t.field({
        type: [JobEventEdge],
        description: "The events.",
        resolve: ({ edges }) => [...edges],
      }),
      nodes: t.field({
        type: [JobEvent],
        nullable: { list: false, items: true },
        description: "The events alone.",
        resolve: ({ edges }) => edges.map(({ node }) => node),
      }),
      pageInfo: t.expose("pageInfo", {
        type: builder.pageInfoRef(),
        description: "Where this page stands in its list.",
      }),
    }),
  });

/** The number of the event that an opened cursor of this job points at; 0 without one. */
function numberOf(cursor: string | null | undefined, jobId: string): number {
  if (cursor === null || cursor === undefined) return 0;
  const [job, number] = cursor.split(":");
  if (job === jobId && /^\d{1,9}$/.test(number ?? "")) return Number(number);
  throw badUserInput("after: this cursor belongs to another job.");
}

builder.prismaObjectField(Job, "events", (t) =>
  t.field({
    type: JobEventConnection,
    nullable: true,
    description:
      "What happened to it, oldest first. `after` takes the cursors of Subscription.jobEvents too.",
    args: {
      first: t.arg.int({ description: `How many events (0 to 100; ${DEFAULT_PAGE} if not said).` }),
      after: t.arg.string({ description: "Only events after this cursor." }),
    },
    resolve: async ({ id }, args, { db }) => {
      const first = args.first ?? DEFAULT_PAGE;
      const rows = await db.jobEvent.findMany({
        where: { jobId: id, number: { gt: numberOf(args.after, id) } },
        orderBy: { number: "asc" },
        take: first + 1,
      });
      const edges = rows.slice(0, first).map((node) => ({ cursor: key(node), node }));
      const more = { hasNextPage: rows.length > first, hasPreviousPage: Boolean(args.after) };
      return {
        edges,
        pageInfo: pageInfo(
          edges.map(({ cursor }) => cursor),
          more,
        ),
      };
    },
  }),
);

builder.subscriptionType({ description: "What is told as it happens, over graphql-transport-ws." });

builder.subscriptionField("jobEvents", (t) =>
  t.field({
    type: JobEvent,
    description:
      "The events of a job: those after the cursor, then new ones as they come, each exactly once and in order. Ends " +
      "with the job.",
    args: {
      jobId: t.arg.id({ required: true, description: "The id of a Job." }),
      after: t.arg.string({
        description: "Only events after this cursor of Job.events or of this subscription.",
      }),
    },
    subscribe: (_, { jobId, after }, context) => follow(context, jobId, after),
    resolve: (event) => event,
  }),
);

/** Decides first, then follows; ends, and lets its reader go, as soon as nobody listens. */
async function follow(
  context: GraphContext,
  jobId: string,
  after: string | null | undefined,
): Promise<AsyncIterable<StoredEvent>> {
  const { typename, id } = decodeId(jobId);
  const job = await context.db.job.findUnique({ where: { id }, select: { namespaceId: true } });
  if (typename !== "Job" || !job || !canSee.job(context.viewer, job))
    throw notFound(`The job ${jobId}`, "jobId");
  const from = numberOf(typeof after === "string" ? openCursor(LIST, after) : null, id);
  const stop = new AbortController();
  const events = tailEvents(context, { jobId: id, after: from, signal: stop.signal });
  // A generator that waits cannot be returned; the signal wakes it.
  const leave = () => {
    stop.abort();
    return events.return();
  };
  const followed: AsyncIterableIterator<StoredEvent> = {
    next: () => events.next(),
    return: leave,
    [Symbol.asyncIterator]: () => followed,
  };
  return followed;
}
