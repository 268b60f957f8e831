-- AlterEnum
-- This migration adds more than one value to an enum.
-- With PostgreSQL versions 11 and earlier, this is not possible
-- in a single migration. This can be worked around by creating
-- multiple migrations, each migration adding only one value to
-- the enum.


ALTER TYPE "device" ADD VALUE 'COREML';
ALTER TYPE "device" ADD VALUE 'DML';
ALTER TYPE "device" ADD VALUE 'ONNX_CPU';

-- AlterTable
ALTER TABLE "jobs" ADD COLUMN     "device" "device" NOT NULL DEFAULT 'CPU';

-- AlterTable
ALTER TABLE "merges" ADD COLUMN     "device_use" JSONB;

-- CreateTable
CREATE TABLE "workers" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "started_at" TIMESTAMPTZ(3) NOT NULL,
    "seen_at" TIMESTAMPTZ(3) NOT NULL,
    "free_disk_bytes" BIGINT,
    "memory_bytes" BIGINT,

    CONSTRAINT "workers_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "worker_devices" (
    "worker_id" UUID NOT NULL,
    "device" "device" NOT NULL,
    "provider" TEXT NOT NULL,
    "name" TEXT,
    "memory_bytes" BIGINT,
    "version" TEXT,
    "available" BOOLEAN NOT NULL,
    "reason" TEXT,

    CONSTRAINT "worker_devices_pkey" PRIMARY KEY ("worker_id","device")
);

-- CreateIndex
CREATE UNIQUE INDEX "workers_name_key" ON "workers"("name");

-- CreateIndex
CREATE INDEX "workers_seen_at_idx" ON "workers"("seen_at");

-- AddForeignKey
ALTER TABLE "worker_devices" ADD CONSTRAINT "worker_devices_worker_id_fkey" FOREIGN KEY ("worker_id") REFERENCES "workers"("id") ON DELETE CASCADE ON UPDATE CASCADE;
