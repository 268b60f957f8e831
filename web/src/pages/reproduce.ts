/** Commands that make a merged version again, elsewhere or later. */

export interface Ingredients {
  readonly base: string;
  readonly adapters: readonly { readonly ref: string; readonly weight: number | null }[];
  readonly output: string;
}

/** Single quotes keep a shell from touching anything; one inside is written `'\''`. */
export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The mutation that starts the same merge; the server answers with the version that it already has. */
export function reproduceMutation({ base, adapters, output }: Ingredients): string {
  const sources = adapters.map(
    ({ ref, weight }) =>
      `{ version: { ref: ${JSON.stringify(ref)} }${weight === null ? "" : `, weight: ${weight}`} }`,
  );
  return `mutation {
  mergeStart(input: {
    base: { version: { ref: ${JSON.stringify(base)} } }
    sources: [${sources.join(", ")}]
    output: { model: ${JSON.stringify(output)} }
    idempotencyKey: "again-1"
  }) {
    job { id state }
    userErrors { code message }
  }
}`;
}

/** Local folders in, a local folder out: no server needed. */
export function reproduceCli({ base, adapters }: { base: string; adapters: readonly string[] }): string {
  const flags = adapters.map((folder) => `--adapter ${shellQuote(folder)}`);
  return ["npm run -s graftwork -- merge", `--base ${shellQuote(base)}`, ...flags, "--out merged"].join(
    " \\\n  ",
  );
}

/** Re-derives a merged folder from its graftwork.json and compares digests. */
export function verifyCli(folder: string): string {
  return `npm run -s graftwork -- verify ${shellQuote(folder)}`;
}
