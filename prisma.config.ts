import { defineConfig } from "prisma/config";

// Only `prisma generate` reads this. Migrations are printed by prisma/migrate-diff.ts and applied by
// src/registry/migrate.ts, so Prisma's own engine is never downloaded and no database URL is needed here.
export default defineConfig({
  schema: "prisma/schema.prisma",
  migrations: { path: "prisma/migrations" },
});
