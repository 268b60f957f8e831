import { GraphQLError, Kind, valueFromASTUntyped } from "graphql";
import { isDigest } from "../core/identity.ts";
import { builder } from "./builder.ts";

const wrong = (scalar: string, value: unknown, write: string) =>
  new GraphQLError(`${scalar} cannot be ${JSON.stringify(value) ?? String(value)}: write ${write}.`);

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;

builder.scalarType("DateTime", {
  description: "A moment, as RFC 3339 writes it, in UTC: `2026-03-01T12:00:00.000Z`.",
  specifiedByURL: "https://www.rfc-editor.org/rfc/rfc3339",
  serialize: (value) => value.toISOString(),
  parseValue: (value) => {
    const date = typeof value === "string" && ISO.test(value) ? new Date(value) : null;
    if (date && !Number.isNaN(date.getTime())) return date;
    throw wrong("DateTime", value, "a date and time with a zone, such as 2026-03-01T12:00:00Z");
  },
});

builder.scalarType("Sha256", {
  description: "`sha256:` and 64 lower-case hex digits.",
  specifiedByURL: "https://doi.org/10.6028/NIST.FIPS.180-4",
  serialize: (value) => value,
  parseValue: (value) => {
    if (isDigest(value)) return value;
    throw wrong("Sha256", value, "sha256: and 64 lower-case hex digits");
  },
});

builder.scalarType("BigInt", {
  description:
    "A whole number beyond 32 bits (bytes, parameters), as decimal text: JSON numbers lose digits beyond 2⁵³.",
  specifiedByURL: "https://tc39.es/ecma262/#sec-ecmascript-language-types-bigint-type",
  serialize: (value) => value.toString(),
  parseValue: (value) => {
    if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
    if (typeof value === "string" && /^-?\d{1,30}$/.test(value)) return BigInt(value);
    throw wrong("BigInt", value, "a whole number as decimal text");
  },
  parseLiteral: (node) => {
    if (node.kind === Kind.INT || (node.kind === Kind.STRING && /^-?\d{1,30}$/.test(node.value))) {
      return BigInt(node.value);
    }
    throw wrong("BigInt", valueFromASTUntyped(node), "a whole number as decimal text");
  },
});

builder.scalarType("JSON", {
  description:
    "Any JSON value, for documents whose shape others decide: a config.json, the data of an event.",
  specifiedByURL: "https://www.rfc-editor.org/rfc/rfc8259",
  serialize: (value) => value,
  parseValue: (value) => value as never,
});
