import { describe, expect, it } from "vitest";
import { floatFromBits } from "../../src/core/dtype.ts";
import { float8ToNumber, roundToFloat8 } from "../../src/core/float8.ts";

/** Bits of float32 values, and what torch 2.13 makes of them after clamping to the largest finite value. */
const FLOATS = [
  3241419366, 3241697452, 3223346892, 3230324570, 1091029805, 1088254308, 3226091400, 3249092529, 1078870406,
  3242861105, 1080032575, 1078277290, 1067017642, 1095108216, 1093840690, 3223208462, 3243797682, 3246894252,
  1085625349, 1090382900, 1086300398, 3245920434, 3227154556, 1100234129, 3221890825, 3236797836, 1085542946,
  1076242778, 3219041162, 3235459812, 1091968809, 1083994167, 1094747147, 1062758569, 3242198454, 3175351834,
  3232090288, 3225700970, 3246192002, 1099466766, 990294396, 3147010150, 3149646128, 3149265623, 1002618734,
  1014800834, 1000750667, 3150031732, 3159958579, 989275156, 3124040165, 3147967833, 3161790264, 3137212658,
  999423045, 1012474382, 1014448425, 1017810373, 1015795798, 1019412461, 3157814055, 3142565748, 3157458288,
  3126809836, 1015469141, 3160332702, 996266108, 1001019818, 3168146776, 3163224486, 3138753694, 993491111,
  992072544, 977899006, 995984375, 999613947, 999668459, 3155019854, 1006633582, 3155679325, 1138753536,
  1138720768, 1139277824, 1139274547, 0, 2147483648, 989855744, 981467136, 985661440, 1197473792, 1198522112,
  841731191,
];
const E4M3 = [
  211, 212, 194, 201, 80, 78, 197, 219, 69, 213, 70, 68, 58, 84, 83, 194, 214, 216, 75, 80, 76, 216, 198, 89,
  193, 207, 75, 66, 190, 206, 81, 74, 84, 54, 212, 148, 202, 196, 216, 89, 1, 130, 131, 131, 3, 8, 3, 131,
  135, 1, 128, 131, 136, 129, 2, 7, 8, 11, 9, 12, 134, 130, 134, 128, 8, 135, 2, 3, 141, 137, 129, 1, 1, 0, 2,
  2, 2, 132, 4, 133, 126, 126, 126, 126, 0, 128, 1, 0, 1, 126, 126, 0,
];
const E5M2 = [
  202, 202, 193, 196, 72, 71, 194, 205, 66, 202, 67, 66, 61, 74, 74, 193, 203, 204, 70, 72, 70, 204, 195, 77,
  192, 199, 70, 65, 191, 199, 73, 69, 74, 59, 202, 170, 197, 194, 204, 76, 24, 157, 158, 158, 30, 36, 29, 158,
  163, 24, 146, 157, 164, 152, 29, 35, 36, 37, 36, 38, 162, 154, 162, 147, 36, 163, 27, 29, 167, 164, 153, 26,
  25, 18, 27, 29, 29, 160, 32, 161, 95, 95, 95, 95, 0, 128, 24, 20, 22, 123, 123, 0,
];

describe("8-bit floats", () => {
  it("are rounded as torch rounds them, to nearest even, subnormals included", () => {
    const values = FLOATS.map(floatFromBits);
    expect(values.map((value) => roundToFloat8("F8_E4M3", value))).toEqual(E4M3);
    expect(values.map((value) => roundToFloat8("F8_E5M2", value))).toEqual(E5M2);
  });

  it.each(["F8_E4M3", "F8_E5M2"] as const)("of %s come back from every pattern", (dtype) => {
    for (let bits = 0; bits < 256; bits++) {
      const value = float8ToNumber(dtype, bits);
      if (Number.isFinite(value)) expect(roundToFloat8(dtype, value)).toBe(bits);
    }
  });

  it("hold what their formats say: no infinity in e4m3, one in e5m2", () => {
    expect(float8ToNumber("F8_E4M3", 0x7e)).toBe(448);
    expect(float8ToNumber("F8_E4M3", 0x7f)).toBeNaN();
    expect(float8ToNumber("F8_E4M3", 1)).toBe(2 ** -9);
    expect(float8ToNumber("F8_E5M2", 0x7b)).toBe(57_344);
    expect(float8ToNumber("F8_E5M2", 0xfc)).toBe(Number.NEGATIVE_INFINITY);
    expect(float8ToNumber("F8_E5M2", 0x7d)).toBeNaN();
    expect(roundToFloat8("F8_E4M3", 1e9)).toBe(0x7e);
    expect(roundToFloat8("F8_E4M3", Number.NaN)).toBe(0x7f);
  });
});
