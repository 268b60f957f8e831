import { builder } from "./builder.ts";

export interface RecipeShape {
  readonly digest: string;
  readonly document: unknown;
}

export const Recipe = builder.objectRef<RecipeShape>("Recipe").implement({
  description: "What to merge. Paths, names, device and time are not in it: they belong to the merge.",
  fields: (t) => ({
    digest: t.field({
      type: "Sha256",
      description: "sha256 of the canonical JSON (RFC 8785).",
      resolve: ({ digest }) => digest,
    }),
    document: t.field({
      type: "JSON",
      description: "The recipe, every field present.",
      resolve: ({ document }) => document,
    }),
  }),
});
