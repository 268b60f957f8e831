/*
 * HTML in which nothing that came from a model, an adapter or a text can be markup: the only way to make it is a
 * template whose every value is escaped unless it was made by such a template itself.
 */

declare const made: unique symbol;
/** Escaped markup. Made by `html` only. */
export interface Html {
  readonly [made]: true;
  readonly markup: string;
}

export type HtmlValue = Html | string | number | null | readonly HtmlValue[];

/** ``html`<td>${text}</td>` ``: escapes every value but markup; null is nothing, lists follow each other. */
export function html(parts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  const markup = parts.map((part, i) => part + (i < values.length ? written(values[i]!) : "")).join("");
  return { markup } as Html;
}

function written(value: HtmlValue): string {
  if (value === null) return "";
  if (typeof value === "string" || typeof value === "number") return escaped(visible(String(value)));
  return "markup" in value ? value.markup : value.map(written).join("");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char]!);
}

/**
 * Control characters, and those that change the direction of text or cannot be seen, as their code points in brackets: a
 * name must not look like another one. Line breaks and tabs stay; half of a surrogate pair becomes U+FFFD.
 */
export function visible(text: string): string {
  return text.toWellFormed().replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (char) => `⟨U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

/** A token with its spaces and line breaks to be seen: `␣the`, `↵`. */
export function tokenText(token: string): string {
  return visible(token).replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

/** At most so many characters, with an ellipsis at the end. */
export function clipped(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}

/** The last characters of a text. */
export function clippedStart(text: string, most: number): string {
  return text.length <= most ? text : `…${text.slice(-most)}`;
}

export interface Table {
  readonly caption: string;
  /** Numbers stand at the right. */
  readonly columns: readonly { readonly title: string; readonly numeric?: boolean }[];
  /** The first cell of a row is its header. */
  readonly rows: readonly (readonly HtmlValue[])[];
  /** Where the screen is narrow it scrolls instead of putting the cells of a row below each other. */
  readonly scrolls?: boolean;
}

/** A table. Roles are said, since a table whose rows are laid out as blocks would lose them. */
export function table({ caption, columns, rows, scrolls }: Table): Html {
  const kind = (i: number) => (columns[i]!.numeric ? html` class="n"` : null);
  const head = columns.map(
    ({ title }, i) => html`<th scope="col" role="columnheader"${kind(i)}>${title}</th>`,
  );
  const label = (i: number) => (scrolls ? null : html` data-label="${columns[i]!.title}"`);
  const body = rows.map((cells) => {
    const [first, ...others] = cells;
    const rest = others.map((cell, i) => html`<td role="cell"${kind(i + 1)}${label(i + 1)}>${cell}</td>`);
    return html`<tr role="row"><th scope="row" role="rowheader">${first ?? null}</th>${rest}</tr>\n`;
  });
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table role="table"${scrolls ? null : html` class="stack"`}>
<caption>${caption}</caption>
<thead role="rowgroup"><tr role="row">${head}</tr></thead>
<tbody role="rowgroup">
${body}</tbody></table></div>
`;
}
