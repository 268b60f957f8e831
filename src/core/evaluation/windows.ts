import { AppError } from "../errors.ts";

/** How a document longer than a model's window is cut, in tokens. */
export interface WindowOptions {
  /** Tokens that run together at most. */
  readonly window: number;
  /** How far the window moves: between 1 and `window` − 1, so that every prediction has something before it. */
  readonly stride: number;
}

/** Tokens `begin` to `end` (exclusive) of a document run together. */
export interface Window {
  readonly begin: number;
  readonly end: number;
  /** Index in the document of the first token that this window predicts; it predicts all from there to its end. */
  readonly firstPrediction: number;
}

/**
 * Cuts a document of `length` tokens so that every token but the first is predicted exactly once, with at least
 * `window − stride` tokens before it wherever the document has that many, and with all of them in the first window.
 * A document of one token or none has nothing to predict.
 * @throws BAD_WINDOW
 */
export function windowsOf(length: number, { window, stride }: WindowOptions): Window[] {
  requireWindow({ window, stride });
  const windows: Window[] = [];
  let firstPrediction = 1;
  for (let begin = 0; firstPrediction < length; begin += stride) {
    const end = Math.min(begin + window, length);
    windows.push({ begin, end, firstPrediction });
    firstPrediction = end;
  }
  return windows;
}

/** @throws BAD_WINDOW unless the window has at least two tokens and the stride leaves one of them as context */
export function requireWindow({ window, stride }: WindowOptions): void {
  if (!Number.isSafeInteger(window) || window < 2) {
    throw new AppError("BAD_WINDOW", `a window of ${window} tokens predicts nothing: give at least 2.`, {
      field: "window",
    });
  }
  if (!Number.isSafeInteger(stride) || stride < 1 || stride >= window) {
    throw new AppError(
      "BAD_WINDOW",
      `a stride of ${stride} does not fit a window of ${window}: give 1 to ${window - 1}, half of the window is usual.`,
      { field: "stride" },
    );
  }
}
