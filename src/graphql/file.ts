import { builder } from "./builder.ts";
import { FileRole } from "./enums.ts";

export const File = builder.prismaNode("File", {
  id: { field: "id" },
  nullable: true,
  description: "One file of a version.",
  select: {
    id: true,
    namespaceId: true,
    version: { select: { model: { select: { visibility: true } } } },
  },
  fields: (t) => ({
    path: t.exposeString("path", { description: "The path within the version, with forward slashes." }),
    role: t.expose("role", { type: FileRole, description: "What the file is for." }),
    size: t.expose("size", { type: "BigInt", description: "Bytes." }),
    digest: t.expose("digest", {
      type: "Sha256",
      nullable: true,
      description:
        "sha256 of the whole file; null for weights, whose tensors are digested one by one, and for large carried files.",
    }),
  }),
});
