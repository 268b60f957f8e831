/** Commands that make a merged version again, elsewhere or later. */

/** The choices of a recipe document, where they are not the defaults. */
export interface RecipeOptions {
  readonly dtype?: string | null;
  readonly numerics?: string;
  readonly ties?: string;
  readonly tokenizer?: string;
  readonly include?: Selected | null;
  readonly exclude?: Selected | null;
}

interface Selected {
  readonly modules: string | readonly string[] | null;
  readonly layers: readonly number[] | null;
}

const CLI_DTYPES: Readonly<Record<string, string>> = { BF16: "bf16", F16: "fp16", F32: "fp32" };

function optionFlags(options: RecipeOptions): string[] {
  const { dtype, numerics, ties, tokenizer } = options;
  return [
    ...(tokenizer ? [`--tokenizer ${tokenizer}`] : []),
    ...(dtype ? [`--dtype ${CLI_DTYPES[dtype] ?? dtype}`] : []),
    ...(numerics?.startsWith("exact") ? ["--numerics exact"] : []),
    ...(ties === "peft" ? ["--ties peft"] : []),
    ...selectionFlags("include", options.include),
    ...selectionFlags("exclude", options.exclude),
  ];
}

function selectionFlags(word: string, selected: Selected | null | undefined): string[] {
  if (!selected) return [];
  const { modules, layers } = selected;
  return [
    ...(typeof modules === "string" ? [`--${word}-pattern ${shellQuote(modules)}`] : []),
    ...(Array.isArray(modules) ? [`--${word} ${shellQuote(modules.join(","))}`] : []),
    ...(layers ? [`--${word}-layers ${layers.join(",")}`] : []),
  ];
}

function optionFields(options: RecipeOptions): string {
  const { dtype, numerics, ties } = options;
  const fields = [
    ...(dtype ? [`dtype: ${dtype}`] : []),
    ...(numerics?.startsWith("exact") ? ["numerics: EXACT"] : []),
    ...(ties === "peft" ? ["ties: PEFT"] : []),
    ...selectionField("include", options.include),
    ...selectionField("exclude", options.exclude),
  ];
  return fields.length === 0 ? "" : `\n    choices: { ${fields.join(", ")} }`;
}

function selectionField(word: string, selected: Selected | null | undefined): string[] {
  if (!selected) return [];
  const { modules, layers } = selected;
  const fields = [
    ...(typeof modules === "string" ? [`pattern: ${JSON.stringify(modules)}`] : []),
    ...(Array.isArray(modules) ? [`modules: ${JSON.stringify(modules)}`] : []),
    ...(layers ? [`layers: ${JSON.stringify(layers)}`] : []),
  ];
  return [`${word}: { ${fields.join(", ")} }`];
}

export interface Ingredients {
  readonly options?: RecipeOptions;
  readonly base: string;
  readonly adapters: readonly { readonly ref: string; readonly weight: number | null }[];
  readonly output: string;
  /** Tells the request from those of other recipes, such as the recipe's digest. */
  readonly key?: string;
}

/** Single quotes keep a shell from touching anything; one inside is written `'\''`. */
export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** What a recipe names is not a choice where the adapter has no tokenizer; naming it is right in any case. */
function tokenizerField({ tokenizer }: RecipeOptions): string {
  return tokenizer ? `\n    tokenizer: ${tokenizer.toUpperCase()}` : "";
}

/** The mutation that starts the same merge; the server answers with the version that it already has. */
export function reproduceMutation({ base, adapters, output, options = {}, key }: Ingredients): string {
  const sources = adapters.map(
    ({ ref, weight }) =>
      `{ version: { ref: ${JSON.stringify(ref)} }${weight === null ? "" : `, weight: ${weight}`} }`,
  );
  return `mutation {
  mergeStart(input: {
    base: { version: { ref: ${JSON.stringify(base)} } }
    sources: [${sources.join(", ")}]${tokenizerField(options)}${optionFields(options)}
    output: { model: ${JSON.stringify(output)} }
    idempotencyKey: ${JSON.stringify(`again ${key ?? "1"}`)}
  }) {
    job { id state }
    userErrors { code message }
  }
}`;
}

/** Local folders in, a local folder out: no server needed. */
export function reproduceCli(from: {
  readonly base: string;
  readonly adapters: readonly string[];
  readonly options?: RecipeOptions;
}): string {
  const flags = from.adapters.map((folder) => `--adapter ${shellQuote(folder)}`);
  const parts = ["npm run -s graftwork -- merge", `--base ${shellQuote(from.base)}`, ...flags];
  return [...parts, ...optionFlags(from.options ?? {}), "--out merged"].join(" \\\n  ");
}

/** Re-derives a merged folder from its graftwork.json and compares digests. */
export function verifyCli(folder: string): string {
  return `npm run -s graftwork -- verify ${shellQuote(folder)}`;
}
