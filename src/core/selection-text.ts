/* How a person writes which modules and layers are meant: in the options of a command, and in a form. */

/** `a, b,c` as names; empty where it names nothing. */
export function readNames(text: string): string[] {
  return text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

/** A range of this many layers is a slip of the finger. */
const MAX_LAYERS = 10_000;

/** `0-15,31` as numbers; null where it is something else. */
export function readLayers(text: string): number[] | null {
  const layers: number[] = [];
  for (const part of text.split(",")) {
    const match = /^\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*$/.exec(part);
    if (!match) return null;
    const first = Number(match[1]);
    const last = match[2] === undefined ? first : Number(match[2]);
    if (last < first || last - first >= MAX_LAYERS) return null;
    for (let layer = first; layer <= last; layer++) layers.push(layer);
  }
  return layers;
}
