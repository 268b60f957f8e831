import { builder } from "./builder.ts";
import { AccountKind, NamespaceRole } from "./enums.ts";

export const Namespace = builder.prismaNode("Namespace", {
  id: { field: "id" },
  nullable: true,
  description: "The `owner` of `owner/name`: the unit of ownership and of visibility.",
  // A namespace shows itself to strangers as soon as it shows a model.
  select: { id: true, models: { where: { visibility: "PUBLIC" }, take: 1, select: { id: true } } },
  fields: (t) => ({
    name: t.exposeString("name", { description: "The name as written before the slash." }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was created." }),
  }),
});

const Membership = builder.prismaObject("Membership", {
  description: "What an account may do in a namespace.",
  fields: (t) => ({
    namespace: t.relation("namespace", { description: "Where.", nullable: true }),
    role: t.expose("role", { type: NamespaceRole, description: "What the account may do there." }),
  }),
});

export const Account = builder.prismaNode("Account", {
  id: { field: "id" },
  nullable: true,
  description: "Somebody or something that may sign in; seen by itself and by admins.",
  select: { id: true },
  fields: (t) => ({
    name: t.exposeString("name", { description: "The account's name." }),
    kind: t.expose("kind", { type: AccountKind, description: "A person or a program." }),
    isAdmin: t.exposeBoolean("isAdmin", { description: "May read and write every namespace." }),
    createdAt: t.expose("createdAt", { type: "DateTime", description: "When it was created." }),
    memberships: t.relation("memberships", {
      type: Membership,
      description: "The namespaces in which the account has a role, by name.",
      query: { orderBy: { namespace: { name: "asc" } } },
    }),
  }),
});

builder.queryFields((t) => ({
  viewer: t.prismaField({
    type: Account,
    nullable: true,
    description: "Who asks; null when not signed in.",
    resolve: (query, _, __, { db, viewer }) =>
      viewer.accountId === null ? null : db.account.findUnique({ ...query, where: { id: viewer.accountId } }),
  }),
}));
