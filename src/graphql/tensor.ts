import { resolveArrayConnection } from "@pothos/plugin-relay";
import type { TensorFacts } from "../core/checkpoint.ts";
import { unpackTensors } from "../registry/tensors.ts";
import { builder } from "./builder.ts";
import { DEFAULT_PAGE, MAX_PAGE } from "./limits.ts";
import { Version } from "./version.ts";

interface TensorShape extends TensorFacts {
  readonly file: string;
}

const Tensor = builder.objectRef<TensorShape>("Tensor").implement({
  description: "One tensor of a version, as the headers and one reading of its bytes tell.",
  fields: (t) => ({
    name: t.exposeString("name", { description: "Its name in the file." }),
    file: t.exposeString("file", { description: "The weights file that holds it." }),
    dtype: t.exposeString("dtype", {
      description: "Element type, as safetensors writes it: BF16, F16, F32, …",
    }),
    shape: t.field({
      type: ["BigInt"],
      description: "Lengths of its dimensions; empty for a scalar.",
      resolve: ({ shape }) => [...shape],
    }),
    sizeBytes: t.field({
      type: "BigInt",
      description: "Bytes.",
      resolve: ({ begin, end }) => end - begin,
    }),
    digest: t.field({
      type: "Sha256",
      nullable: true,
      description: "sha256 of its bytes, little-endian and row-major.",
      resolve: ({ digest }) => digest ?? null,
    }),
    absmax: t.float({
      nullable: true,
      description: "The largest absolute value; null for types that are not float.",
      resolve: ({ stats }) => stats?.absmax ?? null,
    }),
    rms: t.float({
      nullable: true,
      description: "Root mean square; null for types that are not float.",
      resolve: ({ stats }) => stats?.rms ?? null,
    }),
    nonFinite: t.int({
      nullable: true,
      description: "How many elements are NaN or infinite.",
      resolve: ({ stats }) => stats?.nonFinite ?? null,
    }),
  }),
});

builder.prismaObjectField(Version, "tensors", (t) =>
  t.connection(
    {
      type: Tensor,
      nullable: true,
      description: "The tensors, file by file in the order of their bytes.",
      args: { nameContains: t.arg.string({ description: "Only tensors with this text in their name." }) },
      // The headers of a large checkpoint are megabytes: loaded only where tensors are asked for.
      select: {
        files: {
          where: { role: "WEIGHTS" },
          orderBy: { path: "asc" },
          select: { tensorIndex: { select: { document: true } } },
        },
      },
      resolve: ({ files }, args) => {
        const tensors = files.flatMap(({ tensorIndex }) => {
          if (!tensorIndex) return [];
          const file = unpackTensors(tensorIndex.document);
          return file.tensors.map((tensor): TensorShape => ({ ...tensor, file: file.path }));
        });
        const part = args.nameContains;
        const wanted = part ? tensors.filter(({ name }) => name.includes(part)) : tensors;
        const page = resolveArrayConnection({ args, defaultSize: DEFAULT_PAGE, maxSize: MAX_PAGE }, wanted);
        return { ...page, totalCount: wanted.length };
      },
    },
    {
      name: "TensorConnection",
      fields: (c) => ({
        totalCount: c.int({
          description: "How many tensors there are in all.",
          resolve: (page) => (page as unknown as { totalCount: number }).totalCount,
        }),
      }),
    },
    { name: "TensorEdge" },
  ),
);
