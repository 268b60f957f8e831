-- CreateEnum
CREATE TYPE "evaluation_state" AS ENUM ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED');

-- CreateEnum
CREATE TYPE "evaluation_verdict" AS ENUM ('PASSED', 'FAILED', 'INCONCLUSIVE');

-- CreateEnum
CREATE TYPE "evaluation_role" AS ENUM ('BASE', 'ADAPTER', 'CANDIDATE');

-- CreateEnum
CREATE TYPE "text_set_kind" AS ENUM ('TEXTS', 'TASKS');

-- AlterEnum
ALTER TYPE "job_kind" ADD VALUE 'RUN_EVALUATION';

-- AlterTable
ALTER TABLE "jobs" ADD COLUMN     "evaluation_id" UUID;

-- AlterTable
ALTER TABLE "merges" ADD COLUMN     "gate" JSONB,
ADD COLUMN     "texts_id" UUID;

-- CreateTable
CREATE TABLE "gates" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "created_by_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "digest" TEXT NOT NULL,
    "document" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "gates_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "text_sets" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "kind" "text_set_kind" NOT NULL,
    "name" TEXT NOT NULL,
    "digest" TEXT NOT NULL,
    "document" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "text_sets_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "evaluations" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "model_id" UUID NOT NULL,
    "merge_id" UUID,
    "recipe_id" UUID,
    "texts_id" UUID,
    "tasks_id" UUID,
    "created_by_id" UUID NOT NULL,
    "state" "evaluation_state" NOT NULL DEFAULT 'QUEUED',
    "device" "device" NOT NULL DEFAULT 'CPU',
    "choices" JSONB NOT NULL,
    "options" JSONB NOT NULL,
    "gate" JSONB NOT NULL,
    "gate_digest" TEXT NOT NULL,
    "verdict" "evaluation_verdict",
    "summary" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "evaluations_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "evaluation_inputs" (
    "evaluation_id" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "version_id" UUID NOT NULL,
    "role" "evaluation_role" NOT NULL,
    "weight" DOUBLE PRECISION,

    CONSTRAINT "evaluation_inputs_pkey" PRIMARY KEY ("evaluation_id","position")
);

-- CreateTable
CREATE TABLE "evaluation_reports" (
    "evaluation_id" UUID NOT NULL,
    "document" BYTEA NOT NULL,

    CONSTRAINT "evaluation_reports_pkey" PRIMARY KEY ("evaluation_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "gates_namespace_id_name_version_key" ON "gates"("namespace_id", "name", "version");

-- CreateIndex
CREATE UNIQUE INDEX "text_sets_namespace_id_kind_name_digest_key" ON "text_sets"("namespace_id", "kind", "name", "digest");

-- CreateIndex
CREATE INDEX "evaluations_namespace_id_idx" ON "evaluations"("namespace_id");

-- CreateIndex
CREATE INDEX "evaluations_model_id_idx" ON "evaluations"("model_id");

-- CreateIndex
CREATE INDEX "evaluations_merge_id_idx" ON "evaluations"("merge_id");

-- CreateIndex
CREATE INDEX "evaluations_recipe_id_idx" ON "evaluations"("recipe_id");

-- CreateIndex
CREATE INDEX "evaluation_inputs_version_id_role_idx" ON "evaluation_inputs"("version_id", "role");

-- CreateIndex
CREATE INDEX "jobs_evaluation_id_idx" ON "jobs"("evaluation_id");

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_texts_id_fkey" FOREIGN KEY ("texts_id") REFERENCES "text_sets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "gates" ADD CONSTRAINT "gates_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "gates" ADD CONSTRAINT "gates_created_by_id_fkey" FOREIGN KEY ("created_by_id") REFERENCES "accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "text_sets" ADD CONSTRAINT "text_sets_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_model_id_fkey" FOREIGN KEY ("model_id") REFERENCES "models"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_merge_id_fkey" FOREIGN KEY ("merge_id") REFERENCES "merges"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_recipe_id_fkey" FOREIGN KEY ("recipe_id") REFERENCES "recipes"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_texts_id_fkey" FOREIGN KEY ("texts_id") REFERENCES "text_sets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_tasks_id_fkey" FOREIGN KEY ("tasks_id") REFERENCES "text_sets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_created_by_id_fkey" FOREIGN KEY ("created_by_id") REFERENCES "accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluation_inputs" ADD CONSTRAINT "evaluation_inputs_evaluation_id_fkey" FOREIGN KEY ("evaluation_id") REFERENCES "evaluations"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluation_inputs" ADD CONSTRAINT "evaluation_inputs_version_id_fkey" FOREIGN KEY ("version_id") REFERENCES "versions"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "evaluation_reports" ADD CONSTRAINT "evaluation_reports_evaluation_id_fkey" FOREIGN KEY ("evaluation_id") REFERENCES "evaluations"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_evaluation_id_fkey" FOREIGN KEY ("evaluation_id") REFERENCES "evaluations"("id") ON DELETE SET NULL ON UPDATE CASCADE;
