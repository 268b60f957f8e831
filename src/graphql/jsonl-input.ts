import { builder } from "./builder.ts";

export const JsonlInput = builder.inputType("JsonlInput", {
  description: "JSON Lines, with a name for reports.",
  fields: (t) => ({
    name: t.string({ description: "What reports call it; if not said, what it is for: texts or tasks." }),
    jsonl: t.string({
      required: true,
      description:
        'One object a line. Texts: `{"text": "…"}` or `{"messages": [{"role": "user", "content": "…"}, …]}`. ' +
        'Tasks: `{"prompt": "…", "expected": "…"}`.',
    }),
  }),
});
