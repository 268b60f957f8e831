import type { VersionFacts } from "../documents.ts";
import { CodeBlock, CopyButton } from "../ui/copy.tsx";
import { type RecipeOptions, reproduceCli, reproduceMutation, verifyCli } from "./reproduce.ts";

interface RecipeProps {
  readonly version: VersionFacts;
  readonly recipe: { readonly digest: string; readonly document: unknown };
}

export function RecipePanel({ version, recipe }: RecipeProps) {
  const parents = version.parents?.edges ?? [];
  const base = parents.find((edge) => edge.role === "BASE")?.node;
  const adapters = parents.flatMap((edge) => (edge.role === "ADAPTER" && edge.node ? [edge] : []));
  return (
    <div className="columns">
      <section className="stack">
        <h2>Recipe</h2>
        <p className="muted">
          Everything the bytes depend on, and nothing else: no paths, names, device or time. Equal recipes
          give equal bytes.
        </p>
        <div className="strip">
          <span>
            <code className="wrap">{recipe.digest}</code>
            <CopyButton text={recipe.digest} what="the recipe's digest" />
          </span>
        </div>
        <CodeBlock title="Recipe (JSON)" text={JSON.stringify(recipe.document, null, 2)} />
      </section>
      <section className="stack">
        <h2>Reproduce</h2>
        {base && adapters.length > 0 ? (
          <>
            <CodeBlock
              title="Command line, on folders"
              text={reproduceCli({
                base: base.location ?? "BASE_FOLDER",
                adapters: adapters.map((edge) => edge.node!.location ?? "ADAPTER_FOLDER"),
                options: recipe.document as RecipeOptions,
              })}
            />
            <CodeBlock
              title={`GraphQL, at ${window.location.origin}/graphql`}
              text={reproduceMutation({
                base: base.ref,
                adapters: adapters.map((edge) => ({ ref: edge.node!.ref, weight: edge.weight })),
                output: version.model?.name ?? "owner/name",
                key: recipe.digest,
                options: recipe.document as RecipeOptions,
              })}
            />
          </>
        ) : (
          <p className="muted">You may not see what this was merged from, so there is nothing to run.</p>
        )}
        {version.location && (
          <CodeBlock
            title="Prove it: derive the bytes again and compare"
            text={verifyCli(version.location)}
          />
        )}
      </section>
    </div>
  );
}
