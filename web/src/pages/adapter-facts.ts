import type { Json, JsonObject } from "../../../src/core/json.ts";

/** An adapter in a few words, from its config: method, rank, and what it changes besides and in which way. */
export function describeAdapter(config: JsonObject): string {
  const { peft_type: type, r: rank, lora_alpha: alpha } = config;
  const names = (value: Json | undefined) =>
    Array.isArray(value) && value.length > 0 ? value.join(", ") : null;
  const saved = names(config.modules_to_save);
  const parameters = names(config.target_parameters);
  return [
    typeof type === "string" ? type : "of no stated kind",
    ...(typeof rank === "number" ? [`rank ${rank}`] : []),
    ...(typeof alpha === "number" ? [`alpha ${alpha}`] : []),
    ...(config.use_rslora === true ? ["rank-stabilised"] : []),
    ...(config.use_dora === true ? ["with magnitudes (DoRA)"] : []),
    ...(parameters ? [`also parameters ${parameters}`] : []),
    ...(saved ? [`and whole copies of ${saved}`] : []),
  ].join(", ");
}
