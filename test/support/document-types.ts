import {
  type DocumentNode,
  type FragmentDefinitionNode,
  type GraphQLCompositeType,
  type GraphQLInputType,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  getNamedType,
  getOperationAST,
  isAbstractType,
  isCompositeType,
  isEnumType,
  isInputObjectType,
  isListType,
  isNonNullType,
  isRequiredInputField,
  Kind,
  type SelectionSetNode,
  typeFromAST,
} from "graphql";

/** What JSON carries of each scalar, as TypeScript says it. */
const SCALARS: Readonly<Record<string, string>> = {
  ID: "string",
  String: "string",
  Boolean: "boolean",
  Int: "number",
  Float: "number",
  DateTime: "string",
  Sha256: "string",
  BigInt: "string",
  JSON: "unknown",
};

export interface DocumentTypes {
  readonly result: string;
  readonly variables: string;
}

/** The TypeScript types of an operation's answer and variables, as the schema gives them. */
export function documentTypes(schema: GraphQLSchema, document: DocumentNode): DocumentTypes {
  const operation = getOperationAST(document);
  const root = operation && schema.getRootType(operation.operation);
  if (!operation || !root) throw new Error("a document needs one operation");
  const fragments = new Map(
    document.definitions.filter((d) => d.kind === Kind.FRAGMENT_DEFINITION).map((d) => [d.name.value, d]),
  );
  const variables = (operation.variableDefinitions ?? []).map(({ variable, type, defaultValue }) => {
    const input = typeFromAST(schema, type as never) as GraphQLInputType;
    const optional = !isNonNullType(input) || defaultValue !== undefined;
    return `readonly ${variable.name.value}${optional ? "?" : ""}: ${inputType(input)}`;
  });
  return {
    result: selectionType({ schema, fragments }, root, operation.selectionSet),
    variables: variables.length > 0 ? `{ ${variables.join("; ")} }` : "Readonly<Record<string, never>>",
  };
}

interface Scope {
  readonly schema: GraphQLSchema;
  readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>;
}

function outputType(scope: Scope, type: GraphQLOutputType, sets: readonly SelectionSetNode[]): string {
  if (isNonNullType(type)) return bare(scope, type.ofType, sets);
  return `${bare(scope, type, sets)} | null`;
}

function bare(scope: Scope, type: GraphQLOutputType, sets: readonly SelectionSetNode[]): string {
  if (isListType(type)) return `readonly (${outputType(scope, type.ofType, sets)})[]`;
  if (isEnumType(type)) return literals(type.getValues().map(({ name }) => name));
  if (isCompositeType(type)) {
    const selections = sets.flatMap((set) => set.selections);
    return selectionType(scope, type, { kind: Kind.SELECTION_SET, selections });
  }
  return scalar(getNamedType(type).name);
}

/** An object type, or the union of what each possible type gives. */
function selectionType(scope: Scope, type: GraphQLCompositeType, set: SelectionSetNode): string {
  const possible = isAbstractType(type) ? scope.schema.getPossibleTypes(type) : [type];
  return [...new Set(possible.map((one) => objectType(scope, one, set)))].join(" | ");
}

function objectType(scope: Scope, type: GraphQLObjectType, set: SelectionSetNode): string {
  const selected = new Map<string, { field: string; sets: SelectionSetNode[] }>();
  collect(scope, type, set, selected);
  const fields = [...selected].map(([key, { field, sets }]) => {
    const shape =
      field === "__typename"
        ? JSON.stringify(type.name)
        : outputType(scope, type.getFields()[field]!.type, sets);
    return `readonly ${key}: ${shape}`;
  });
  return `{ ${fields.join("; ")} }`;
}

type Selected = Map<string, { field: string; sets: SelectionSetNode[] }>;

function collect(scope: Scope, type: GraphQLObjectType, set: SelectionSetNode, selected: Selected): void {
  for (const selection of set.selections) {
    if (selection.kind === Kind.FIELD) {
      const key = (selection.alias ?? selection.name).value;
      const entry = selected.get(key) ?? { field: selection.name.value, sets: [] };
      if (selection.selectionSet) entry.sets.push(selection.selectionSet);
      selected.set(key, entry);
      continue;
    }
    const fragment =
      selection.kind === Kind.INLINE_FRAGMENT ? selection : scope.fragments.get(selection.name.value)!;
    const condition = fragment.typeCondition ? scope.schema.getType(fragment.typeCondition.name.value) : type;
    const fits = condition === type || (isAbstractType(condition) && scope.schema.isSubType(condition, type));
    if (fits) collect(scope, type, fragment.selectionSet, selected);
  }
}

function inputType(type: GraphQLInputType): string {
  if (isNonNullType(type)) return bareInput(type.ofType);
  return `${bareInput(type)} | null | undefined`;
}

function bareInput(type: GraphQLInputType): string {
  if (isListType(type)) return `readonly (${inputType(type.ofType)})[]`;
  if (isEnumType(type)) return literals(type.getValues().map(({ name }) => name));
  if (!isInputObjectType(type)) return scalar(getNamedType(type).name);
  const fields = Object.values(type.getFields());
  if (type.isOneOf) {
    return fields
      .map((one) => {
        const others = fields.filter((other) => other !== one).map(({ name }) => `readonly ${name}?: never`);
        return `{ ${[`readonly ${one.name}: ${bareInput(one.type)}`, ...others].join("; ")} }`;
      })
      .join(" | ");
  }
  const shape = fields.map(
    (field) => `readonly ${field.name}${isRequiredInputField(field) ? "" : "?"}: ${inputType(field.type)}`,
  );
  return `{ ${shape.join("; ")} }`;
}

function literals(names: readonly string[]): string {
  return names.map((name) => JSON.stringify(name)).join(" | ");
}

function scalar(name: string): string {
  const type = SCALARS[name];
  if (type === undefined) throw new Error(`the scalar ${name} has no TypeScript type here`);
  return type;
}
