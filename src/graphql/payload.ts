import type { FieldMap, InputRef, ObjectFieldBuilder, ObjectRef, SchemaTypes } from "@pothos/core";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { capture, UserError, type UserErrorShape } from "./user-errors.ts";

type BuilderTypes =
  typeof builder extends PothosSchemaTypes.SchemaBuilder<infer T extends SchemaTypes> ? T : never;
export type PayloadOf<Result> = Partial<Result> & { readonly userErrors: readonly UserErrorShape[] };

export type PayloadBuilder<Result extends object> = ObjectFieldBuilder<BuilderTypes, PayloadOf<Result>>;

export interface Intent<Input, Result extends object> {
  readonly description: string;
  readonly input: InputRef<Input>;
  /** The payload's fields beside `userErrors`; all nullable, because nothing is there when it was refused. */
  readonly payload: (t: PayloadBuilder<Result>) => FieldMap;
  /** Registry field → where this input has it, for `userErrors.field`. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly resolve: (input: Input, context: GraphContext) => Promise<Result>;
}

/** One mutation for one intent, with a payload of nullable results and `userErrors`. */
export function mutation<Input, Result extends object>(name: string, intent: Intent<Input, Result>): void {
  builder.mutationField(name, (t) => t.field(options(name, intent)));
}

/** A question with an input that can be wrong in expected ways: a query in the shape of a mutation. */
export function inquiry<Input, Result extends object>(name: string, intent: Intent<Input, Result>): void {
  builder.queryField(name, (t) => t.field(options(name, intent)));
}

function options<Input, Result extends object>(name: string, intent: Intent<Input, Result>) {
  const { description, input, payload, fields, resolve } = intent;
  const type = builder.objectRef<PayloadOf<Result>>(`${name[0]!.toUpperCase()}${name.slice(1)}Payload`);
  type.implement({
    description: `What \`${name}\` answers.`,
    fields: (t) => ({
      ...payload(t),
      userErrors: t.field({
        type: [UserError],
        description: "Why it was not done; empty when it was.",
        resolve: ({ userErrors }) => [...userErrors],
      }),
    }),
  });
  return {
    // What a payload holds matters to its own fields alone.
    type: type as unknown as ObjectRef<BuilderTypes, object>,
    description,
    args: builder.args((t) => ({
      input: t.field({ type: input as InputRef<unknown>, required: true, description: "What is asked." }),
    })),
    resolve: (_: object, args: { input?: unknown }, context: GraphContext): Promise<object> =>
      capture(() => resolve(args.input as Input, context), fields),
  };
}

/** An input without what was not said, so that the defaults of whoever reads it hold. */
export function said(input: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(input).filter(([, value]) => value !== null && value !== undefined),
  );
}
