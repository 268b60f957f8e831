-- CreateEnum
CREATE TYPE "account_kind" AS ENUM ('PERSON', 'SERVICE');

-- CreateEnum
CREATE TYPE "namespace_role" AS ENUM ('VIEWER', 'EDITOR', 'ADMIN');

-- CreateEnum
CREATE TYPE "model_kind" AS ENUM ('BASE', 'ADAPTER', 'MERGED', 'QUANTIZED');

-- CreateEnum
CREATE TYPE "visibility" AS ENUM ('PUBLIC', 'PRIVATE');

-- CreateEnum
CREATE TYPE "version_origin" AS ENUM ('IMPORTED', 'MERGED');

-- CreateEnum
CREATE TYPE "file_role" AS ENUM ('WEIGHTS', 'CONFIG', 'TOKENIZER', 'CODE', 'CARRIED');

-- CreateEnum
CREATE TYPE "lineage_relation" AS ENUM ('TRAINED_ON', 'MERGED_FROM');

-- CreateEnum
CREATE TYPE "lineage_role" AS ENUM ('BASE', 'ADAPTER');

-- CreateEnum
CREATE TYPE "merge_state" AS ENUM ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED');

-- CreateEnum
CREATE TYPE "device" AS ENUM ('CPU', 'WEBGPU', 'CUDA');

-- CreateEnum
CREATE TYPE "merge_verdict" AS ENUM ('PASSED', 'FAILED');

-- CreateEnum
CREATE TYPE "job_kind" AS ENUM ('IMPORT_VERSION', 'RUN_MERGE', 'VERIFY_MERGE');

-- CreateEnum
CREATE TYPE "job_state" AS ENUM ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED');

-- CreateTable
CREATE TABLE "namespaces" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "namespaces_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "accounts" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "kind" "account_kind" NOT NULL DEFAULT 'PERSON',
    "is_admin" BOOLEAN NOT NULL DEFAULT false,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "accounts_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "memberships" (
    "account_id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "role" "namespace_role" NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "memberships_pkey" PRIMARY KEY ("account_id","namespace_id")
);

-- CreateTable
CREATE TABLE "api_tokens" (
    "id" UUID NOT NULL,
    "account_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "prefix" TEXT NOT NULL,
    "hash" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "last_used_at" TIMESTAMPTZ(3),
    "expires_at" TIMESTAMPTZ(3),
    "revoked_at" TIMESTAMPTZ(3),

    CONSTRAINT "api_tokens_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "sessions" (
    "id" UUID NOT NULL,
    "account_id" UUID NOT NULL,
    "token_id" UUID NOT NULL,
    "hash" TEXT NOT NULL,
    "csrf_hash" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "sessions_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "models" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "kind" "model_kind" NOT NULL,
    "visibility" "visibility" NOT NULL DEFAULT 'PRIVATE',
    "latest_number" INTEGER NOT NULL DEFAULT 0,
    "revision" INTEGER NOT NULL DEFAULT 1,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "models_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "versions" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "model_id" UUID NOT NULL,
    "number" INTEGER NOT NULL,
    "digest" TEXT NOT NULL,
    "weights_digest" TEXT NOT NULL,
    "origin" "version_origin" NOT NULL,
    "location" TEXT NOT NULL,
    "size_bytes" BIGINT NOT NULL,
    "parameters" BIGINT NOT NULL,
    "tensor_count" INTEGER NOT NULL,
    "dtype" TEXT NOT NULL,
    "architecture" TEXT,
    "model_type" TEXT,
    "config" JSONB NOT NULL,
    "shard_index" JSONB,
    "tokenizer" JSONB,
    "has_code" BOOLEAN NOT NULL DEFAULT false,
    "warnings" JSONB NOT NULL DEFAULT '[]',
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "versions_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "files" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "version_id" UUID NOT NULL,
    "path" TEXT NOT NULL,
    "role" "file_role" NOT NULL,
    "size" BIGINT NOT NULL,
    "digest" TEXT,
    "real_path" TEXT,
    "mtime_ns" TEXT,
    "inode" TEXT,

    CONSTRAINT "files_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "tensor_indexes" (
    "file_id" UUID NOT NULL,
    "tensor_count" INTEGER NOT NULL,
    "document" BYTEA NOT NULL,

    CONSTRAINT "tensor_indexes_pkey" PRIMARY KEY ("file_id")
);

-- CreateTable
CREATE TABLE "lineage_edges" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "parent_id" UUID NOT NULL,
    "child_id" UUID NOT NULL,
    "relation" "lineage_relation" NOT NULL,
    "role" "lineage_role" NOT NULL,
    "weight" DOUBLE PRECISION,
    "position" INTEGER NOT NULL DEFAULT 0,
    "parent_digest" TEXT NOT NULL,
    "recipe_digest" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "lineage_edges_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "recipes" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "digest" TEXT NOT NULL,
    "document" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "recipes_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "merges" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "recipe_id" UUID NOT NULL,
    "output_model_id" UUID NOT NULL,
    "version_id" UUID,
    "cached_from_id" UUID,
    "created_by_id" UUID NOT NULL,
    "state" "merge_state" NOT NULL DEFAULT 'QUEUED',
    "device" "device" NOT NULL DEFAULT 'CPU',
    "threads" INTEGER,
    "engine_version" TEXT,
    "plan" JSONB,
    "report" JSONB,
    "verdict" "merge_verdict",
    "verification" JSONB,
    "verify_verdict" "merge_verdict",
    "verified_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "merges_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "merge_inputs" (
    "merge_id" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "version_id" UUID NOT NULL,
    "role" "lineage_role" NOT NULL,
    "weight" DOUBLE PRECISION,

    CONSTRAINT "merge_inputs_pkey" PRIMARY KEY ("merge_id","position")
);

-- CreateTable
CREATE TABLE "jobs" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "created_by_id" UUID NOT NULL,
    "kind" "job_kind" NOT NULL,
    "state" "job_state" NOT NULL DEFAULT 'QUEUED',
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "last_event" INTEGER NOT NULL DEFAULT 0,
    "stage" TEXT,
    "progress_done" BIGINT NOT NULL DEFAULT 0,
    "progress_total" BIGINT NOT NULL DEFAULT 0,
    "progress_unit" TEXT NOT NULL DEFAULT 'bytes',
    "error" JSONB,
    "input" JSONB NOT NULL,
    "idempotency_key" TEXT,
    "input_digest" TEXT NOT NULL,
    "model_id" UUID,
    "merge_id" UUID,
    "version_id" UUID,
    "worker_id" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "jobs_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "job_events" (
    "job_id" UUID NOT NULL,
    "number" INTEGER NOT NULL,
    "at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "type" TEXT NOT NULL,
    "data" JSONB NOT NULL DEFAULT '{}',

    CONSTRAINT "job_events_pkey" PRIMARY KEY ("job_id","number")
);

-- CreateIndex
CREATE UNIQUE INDEX "namespaces_name_key" ON "namespaces"("name");

-- CreateIndex
CREATE UNIQUE INDEX "accounts_name_key" ON "accounts"("name");

-- CreateIndex
CREATE INDEX "memberships_namespace_id_idx" ON "memberships"("namespace_id");

-- CreateIndex
CREATE UNIQUE INDEX "api_tokens_hash_key" ON "api_tokens"("hash");

-- CreateIndex
CREATE INDEX "api_tokens_account_id_idx" ON "api_tokens"("account_id");

-- CreateIndex
CREATE UNIQUE INDEX "sessions_hash_key" ON "sessions"("hash");

-- CreateIndex
CREATE INDEX "sessions_token_id_idx" ON "sessions"("token_id");

-- CreateIndex
CREATE INDEX "sessions_account_id_idx" ON "sessions"("account_id");

-- CreateIndex
CREATE INDEX "models_visibility_idx" ON "models"("visibility");

-- CreateIndex
CREATE UNIQUE INDEX "models_namespace_id_name_key" ON "models"("namespace_id", "name");

-- CreateIndex
CREATE INDEX "versions_digest_idx" ON "versions"("digest");

-- CreateIndex
CREATE INDEX "versions_weights_digest_idx" ON "versions"("weights_digest");

-- CreateIndex
CREATE INDEX "versions_namespace_id_idx" ON "versions"("namespace_id");

-- CreateIndex
CREATE UNIQUE INDEX "versions_model_id_number_key" ON "versions"("model_id", "number");

-- CreateIndex
CREATE UNIQUE INDEX "versions_model_id_digest_key" ON "versions"("model_id", "digest");

-- CreateIndex
CREATE INDEX "files_namespace_id_idx" ON "files"("namespace_id");

-- CreateIndex
CREATE UNIQUE INDEX "files_version_id_path_key" ON "files"("version_id", "path");

-- CreateIndex
CREATE INDEX "lineage_edges_parent_id_idx" ON "lineage_edges"("parent_id");

-- CreateIndex
CREATE INDEX "lineage_edges_namespace_id_idx" ON "lineage_edges"("namespace_id");

-- CreateIndex
CREATE UNIQUE INDEX "lineage_edges_child_id_relation_position_parent_id_key" ON "lineage_edges"("child_id", "relation", "position", "parent_id");

-- CreateIndex
CREATE UNIQUE INDEX "recipes_namespace_id_digest_key" ON "recipes"("namespace_id", "digest");

-- CreateIndex
CREATE INDEX "merges_recipe_id_state_idx" ON "merges"("recipe_id", "state");

-- CreateIndex
CREATE INDEX "merges_version_id_idx" ON "merges"("version_id");

-- CreateIndex
CREATE INDEX "merges_output_model_id_idx" ON "merges"("output_model_id");

-- CreateIndex
CREATE INDEX "merges_namespace_id_idx" ON "merges"("namespace_id");

-- CreateIndex
CREATE INDEX "merge_inputs_version_id_idx" ON "merge_inputs"("version_id");

-- CreateIndex
CREATE INDEX "jobs_namespace_id_idx" ON "jobs"("namespace_id");

-- CreateIndex
CREATE INDEX "jobs_merge_id_idx" ON "jobs"("merge_id");

-- CreateIndex
CREATE INDEX "jobs_version_id_idx" ON "jobs"("version_id");

-- CreateIndex
CREATE INDEX "jobs_model_id_idx" ON "jobs"("model_id");

-- CreateIndex
CREATE INDEX "jobs_state_idx" ON "jobs"("state");

-- CreateIndex
CREATE UNIQUE INDEX "jobs_created_by_id_idempotency_key_key" ON "jobs"("created_by_id", "idempotency_key");

-- AddForeignKey
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_account_id_fkey" FOREIGN KEY ("account_id") REFERENCES "accounts"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "api_tokens" ADD CONSTRAINT "api_tokens_account_id_fkey" FOREIGN KEY ("account_id") REFERENCES "accounts"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_account_id_fkey" FOREIGN KEY ("account_id") REFERENCES "accounts"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_token_id_fkey" FOREIGN KEY ("token_id") REFERENCES "api_tokens"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "models" ADD CONSTRAINT "models_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "versions" ADD CONSTRAINT "versions_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "versions" ADD CONSTRAINT "versions_model_id_fkey" FOREIGN KEY ("model_id") REFERENCES "models"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "files" ADD CONSTRAINT "files_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "files" ADD CONSTRAINT "files_version_id_fkey" FOREIGN KEY ("version_id") REFERENCES "versions"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "tensor_indexes" ADD CONSTRAINT "tensor_indexes_file_id_fkey" FOREIGN KEY ("file_id") REFERENCES "files"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "lineage_edges" ADD CONSTRAINT "lineage_edges_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "lineage_edges" ADD CONSTRAINT "lineage_edges_parent_id_fkey" FOREIGN KEY ("parent_id") REFERENCES "versions"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "lineage_edges" ADD CONSTRAINT "lineage_edges_child_id_fkey" FOREIGN KEY ("child_id") REFERENCES "versions"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "recipes" ADD CONSTRAINT "recipes_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_recipe_id_fkey" FOREIGN KEY ("recipe_id") REFERENCES "recipes"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_output_model_id_fkey" FOREIGN KEY ("output_model_id") REFERENCES "models"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_version_id_fkey" FOREIGN KEY ("version_id") REFERENCES "versions"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_cached_from_id_fkey" FOREIGN KEY ("cached_from_id") REFERENCES "merges"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merges" ADD CONSTRAINT "merges_created_by_id_fkey" FOREIGN KEY ("created_by_id") REFERENCES "accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merge_inputs" ADD CONSTRAINT "merge_inputs_merge_id_fkey" FOREIGN KEY ("merge_id") REFERENCES "merges"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "merge_inputs" ADD CONSTRAINT "merge_inputs_version_id_fkey" FOREIGN KEY ("version_id") REFERENCES "versions"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_created_by_id_fkey" FOREIGN KEY ("created_by_id") REFERENCES "accounts"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_model_id_fkey" FOREIGN KEY ("model_id") REFERENCES "models"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_merge_id_fkey" FOREIGN KEY ("merge_id") REFERENCES "merges"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_version_id_fkey" FOREIGN KEY ("version_id") REFERENCES "versions"("id") ON DELETE SET NULL ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "job_events" ADD CONSTRAINT "job_events_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE CASCADE ON UPDATE CASCADE;
