/** Cases of test/fixtures/merge that do not yet end as they should. */
export const PENDING: readonly string[] = [
  "llama-save-embed-head",
  "llama-save-lm-head",
  "llama-tied-embed",
  "llama-tied-embed-head",
  "llama-tied-lm-head",
  "llama-tied-token-rows",
  "llama-token-rows",
  "llama-vocab-resized",
  "ln-tuning",
  "trainable-tokens",
];
