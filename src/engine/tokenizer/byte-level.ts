/*
 * GPT-2's way to write bytes as text: printable ones stand for themselves, the others for characters from U+0100 on.
 * https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode
 */
const PRINTABLE = /[!-~\u00a1-\u00ac\u00ae-\u00ff]/;

const TEXT_OF: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const same = String.fromCharCode(byte);
    return PRINTABLE.test(same) ? same : String.fromCharCode(next++);
  });
})();

const BYTE_OF: ReadonlyMap<string, number> = new Map(TEXT_OF.map((text, byte) => [text, byte]));

const utf8 = new TextEncoder();

export function bytesAsText(text: string): string {
  let written = "";
  for (const byte of utf8.encode(text)) written += TEXT_OF[byte];
  return written;
}

/** The bytes that a token writes; a token with a character that writes none (an added one, mostly) is itself. */
export function textAsBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF.get(character);
    if (byte === undefined) return utf8.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
