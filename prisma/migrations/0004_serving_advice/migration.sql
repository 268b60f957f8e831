-- CreateEnum
CREATE TYPE "serving_role" AS ENUM ('BASE', 'ADAPTER', 'MERGED');

-- AlterEnum
ALTER TYPE "job_kind" ADD VALUE 'MEASURE_SERVING';

-- CreateTable
CREATE TABLE "serving_advices" (
    "id" UUID NOT NULL,
    "namespace_id" UUID NOT NULL,
    "model_id" UUID NOT NULL,
    "job_id" UUID NOT NULL,
    "device" "device" NOT NULL,
    "document" JSONB NOT NULL,
    "commands" JSONB NOT NULL,
    "environment" JSONB NOT NULL,
    "measured_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "serving_advices_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "serving_advice_inputs" (
    "advice_id" UUID NOT NULL,
    "position" INTEGER NOT NULL,
    "version_id" UUID NOT NULL,
    "role" "serving_role" NOT NULL,
    "weight" DOUBLE PRECISION,

    CONSTRAINT "serving_advice_inputs_pkey" PRIMARY KEY ("advice_id","position")
);

-- CreateIndex
CREATE UNIQUE INDEX "serving_advices_job_id_key" ON "serving_advices"("job_id");

-- CreateIndex
CREATE INDEX "serving_advices_namespace_id_idx" ON "serving_advices"("namespace_id");

-- CreateIndex
CREATE INDEX "serving_advices_model_id_idx" ON "serving_advices"("model_id");

-- CreateIndex
CREATE INDEX "serving_advice_inputs_version_id_role_idx" ON "serving_advice_inputs"("version_id", "role");

-- AddForeignKey
ALTER TABLE "serving_advices" ADD CONSTRAINT "serving_advices_namespace_id_fkey" FOREIGN KEY ("namespace_id") REFERENCES "namespaces"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "serving_advices" ADD CONSTRAINT "serving_advices_model_id_fkey" FOREIGN KEY ("model_id") REFERENCES "models"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "serving_advices" ADD CONSTRAINT "serving_advices_job_id_fkey" FOREIGN KEY ("job_id") REFERENCES "jobs"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "serving_advice_inputs" ADD CONSTRAINT "serving_advice_inputs_advice_id_fkey" FOREIGN KEY ("advice_id") REFERENCES "serving_advices"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "serving_advice_inputs" ADD CONSTRAINT "serving_advice_inputs_version_id_fkey" FOREIGN KEY ("version_id") REFERENCES "versions"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
