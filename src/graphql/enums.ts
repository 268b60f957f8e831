import { builder } from "./builder.ts";

/** Values of a database enum, each with the sentence that explains it. */
function described<Name extends string>(values: Record<Name, string>) {
  return Object.fromEntries(
    Object.entries<string>(values).map(([name, description]) => [name, { value: name, description }]),
  ) as unknown as Record<Name, { value: Name; description: string }>;
}

export const ModelKind = builder.enumType("ModelKind", {
  description: "What a model is.",
  values: described({
    BASE: "A full checkpoint that adapters are trained on.",
    ADAPTER: "A low-rank (or other PEFT) update trained on a base.",
    MERGED: "A full checkpoint made by a merge.",
    QUANTIZED: "A full checkpoint in a quantised format.",
  }),
});

export const Visibility = builder.enumType("Visibility", {
  description: "Who may see a model and all its versions.",
  values: described({
    PUBLIC: "Everybody, signed in or not.",
    PRIVATE: "Members of the namespace.",
  }),
});

export const VersionOrigin = builder.enumType("VersionOrigin", {
  description: "How a version came to be.",
  values: described({
    IMPORTED: "Registered from files that were there already; they stay where they are.",
    MERGED: "Written by a merge.",
  }),
});

export const FileRole = builder.enumType("FileRole", {
  description: "What a file of a version is for.",
  values: described({
    WEIGHTS: "A safetensors shard.",
    CONFIG: "config.json, generation_config.json, adapter_config.json, the shard index.",
    TOKENIZER: "The tokenizer's files and the chat template.",
    CODE: "Python code: carried and flagged, never run.",
    CARRIED: "README, logs and the like: carried, and not part of the version's digest.",
  }),
});

export const LineageRelation = builder.enumType("LineageRelation", {
  description: "How a child version came from a parent version.",
  values: described({
    TRAINED_ON: "The child is an adapter trained on the parent.",
    MERGED_FROM: "The child is a merge and the parent one of its inputs.",
  }),
});

export const LineageRole = builder.enumType("LineageRole", {
  description: "What a parent was to its child, or an input to its merge.",
  values: described({
    BASE: "The checkpoint that was adapted.",
    ADAPTER: "The adapter that was merged in.",
  }),
});

export const MergeState = builder.enumType("MergeState", {
  description: "How far a merge has come.",
  values: described({
    QUEUED: "Waits for a worker.",
    RUNNING: "A worker is at it.",
    SUCCEEDED: "There is a version.",
    FAILED: "It stopped with an error.",
    CANCELLED: "Somebody stopped it.",
  }),
});

export const Device = builder.enumType("Device", {
  description: "What multiplies.",
  values: described({
    CPU: "WebAssembly SIMD kernels: the canonical arithmetic.",
    WEBGPU: "ONNX Runtime on WebGPU.",
    CUDA: "ONNX Runtime on CUDA.",
    COREML: "ONNX Runtime on Core ML.",
    DML: "ONNX Runtime on DirectML.",
    ONNX_CPU: "ONNX Runtime on a processor: for comparison, not for speed.",
  }),
});

export const MergeVerdict = builder.enumType("MergeVerdict", {
  description: "What a check found.",
  values: described({
    PASSED: "Everything is as it must be.",
    WARNED: "As it must be, with something worth reading.",
    FAILED: "Something is not as it must be.",
  }),
});

export const JobKind = builder.enumType("JobKind", {
  description: "What a job does.",
  values: described({
    IMPORT_VERSION: "Reads and records a folder as a version.",
    RUN_MERGE: "Executes a merge.",
    VERIFY_MERGE: "Re-derives a merge and compares digests.",
    RUN_EVALUATION: "Compares base and adapters, un-merged, with what merging them gives.",
    MEASURE_SERVING: "Measures what serving base and adapters apart costs, and merged.",
  }),
});

export const EvaluationState = builder.enumType("EvaluationState", {
  description: "How far an evaluation has come.",
  values: described({
    QUEUED: "Waits for a worker.",
    RUNNING: "A worker is at it.",
    SUCCEEDED: "There is a report, whatever its verdict.",
    FAILED: "It stopped with an error; that says nothing of the candidate.",
    CANCELLED: "Somebody stopped it.",
  }),
});

export const EvaluationVerdict = builder.enumType("EvaluationVerdict", {
  description: "What an evaluation says under its gate.",
  values: described({
    PASSED: "Everything that the gate asks for was measured and is within its thresholds.",
    FAILED: "Something is not as it must be; `reasons` names each.",
    INCONCLUSIVE: "Too little was measured for the certainty that the gate asks for.",
  }),
});

export const EvaluationRole = builder.enumType("EvaluationRole", {
  description: "What a version is to an evaluation.",
  values: described({
    BASE: "The checkpoint that the reference runs on.",
    ADAPTER: "An adapter that the reference runs un-merged.",
    CANDIDATE: "The checkpoint that is judged.",
  }),
});

export const ServingRole = builder.enumType("ServingRole", {
  description: "What a version is to an advice.",
  values: described({
    BASE: "The checkpoint that the adapters run on.",
    ADAPTER: "An adapter that is served beside it, or merged.",
    MERGED: "The merged checkpoint.",
  }),
});

export const ServingChoice = builder.enumType("ServingChoice", {
  description: "How to serve a model with its adapters.",
  values: described({
    MERGE: "As one merged checkpoint.",
    SEPARATE: "As the base with the adapters beside it.",
  }),
});

export const JobState = builder.enumType("JobState", {
  description: "How far a job has come.",
  values: described({
    QUEUED: "Waits for a worker.",
    RUNNING: "A worker is at it.",
    SUCCEEDED: "It has its result.",
    FAILED: "It stopped with an error.",
    CANCELLED: "Somebody stopped it.",
  }),
});

export const JobEventType = builder.enumType("JobEventType", {
  description: "What happened to a job.",
  values: described({
    QUEUED: "It was put into the queue.",
    CLAIMED: "A worker took it.",
    STAGE: "Another stage began.",
    PROGRESS_NOTE: "Something worth knowing about the progress.",
    WARNING: "Something odd that did not stop it.",
    RETRYING: "It will be tried again: its worker went away or lost the database.",
    SUCCEEDED: "It has its result; the last event.",
    FAILED: "It stopped with an error; the last event.",
    CANCELLED: "Somebody stopped it; the last event.",
  }),
});

export const AccountKind = builder.enumType("AccountKind", {
  description: "Whether an account stands for a person or for a program.",
  values: described({
    PERSON: "Somebody who signs in.",
    SERVICE: "A program that holds a token.",
  }),
});

export const NamespaceRole = builder.enumType("NamespaceRole", {
  description: "What a member may do in a namespace; each role includes the ones before it.",
  values: described({
    VIEWER: "May read.",
    EDITOR: "May import and merge.",
    ADMIN: "May change members and visibility.",
  }),
});

export const MergeDtype = builder.enumType("MergeDtype", {
  description: "Storage types that a merge can write.",
  values: described({
    BF16: "bfloat16.",
    F16: "IEEE half precision.",
    F32: "IEEE single precision.",
  }),
});

export const Numerics = builder.enumType("Numerics", {
  description: "The arithmetic of a merge.",
  values: described({
    PEFT: "PEFT's own steps on a CPU: float32, rounded where PEFT rounds; the bytes are PEFT's.",
    EXACT: "float64 all the way and one rounding into the storage type: closest to the true value.",
  }),
});

export const TiedEmbeddings = builder.enumType("TiedEmbeddings", {
  description: "What becomes of tied embeddings when an adapter changes one side.",
  values: described({
    PRESERVE:
      "Each side changes by its own update only, as the unmerged adapter computes; the pair is untied where it must be.",
    PEFT: "The shared matrix changes, and with it both sides, as PEFT's merge does.",
  }),
});
