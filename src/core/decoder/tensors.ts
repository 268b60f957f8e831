import { type Dtype, isMergeable } from "../dtype.ts";
import { AppError } from "../errors.ts";
import { unsupported } from "./fields.ts";
import type { LinearSpec, NormSpec } from "./spec.ts";

/** A tensor as a checkpoint declares it. */
export interface Declared {
  readonly shape: readonly number[];
  readonly dtype: Dtype;
}

/** Buffers that older versions of transformers stored; the computation makes its own. */
const STORED_BUFFERS =
  /(^|\.)(rotary_emb\.inv_freq|attn\.(bias|masked_bias)|attention\.(bias|masked_bias)|embeddings\.position_ids)$/;

/** A size of a shape: null fits every size. */
type Size = number | null;

/** The tensors of a checkpoint, taken by the names that a family gives them; what was taken is remembered. */
export class Tensors {
  readonly #declared: ReadonlyMap<string, Declared>;
  readonly #family: string;
  readonly #taken = new Set<string>();
  /** In front of the names of the model without its head, e.g. `model.`. */
  readonly prefix: string;
  /** In front of the head's name. */
  readonly headPrefix: string;

  private constructor(
    declared: ReadonlyMap<string, Declared>,
    place: { family: string; prefix: string; headPrefix: string },
  ) {
    this.#declared = declared;
    this.#family = place.family;
    this.prefix = place.prefix;
    this.headPrefix = place.headPrefix;
  }

  /**
   * Finds which of `prefixes` (of the model, and of its head) the checkpoint uses: the one under which `layer` begins a
   * name. Files written by a bare model have none, those of a model that also sees images have a longer one.
   * @throws BAD_CHECKPOINT where none fits, or more than one
   */
  static locate(
    declared: ReadonlyMap<string, Declared>,
    family: string,
    { layer, prefixes }: { layer: string; prefixes: readonly (readonly [model: string, head: string])[] },
  ): Tensors {
    const names = [...declared.keys()];
    const found = prefixes.filter(([prefix]) => names.some((name) => name.startsWith(prefix + layer)));
    const [first] = found;
    if (!first || found.length > 1) {
      const tried = (first ? found : prefixes).map(([prefix]) => `"${prefix}${layer}…"`).join(", ");
      throw new AppError(
        "BAD_CHECKPOINT",
        first
          ? `The checkpoint holds tensors named ${tried}: which of them are the ${family} model is not clear. Keep one.`
          : `The checkpoint holds no tensor of a first layer of model_type "${family}" (looked for ${tried}). ` +
              "Check that config.json belongs to these weights.",
        { field: "model_type" },
      );
    }
    return new Tensors(declared, { family, prefix: first[0], headPrefix: first[1] });
  }

  has(name: string): boolean {
    return this.#declared.has(name);
  }

  /** The name itself, once the tensor is there with a fitting shape and a float type. */
  take(name: string, shape: readonly Size[]): string {
    const found = this.#declared.get(name);
    const expected = `[${shape.map((n) => n ?? "any").join(", ")}]`;
    if (!found) {
      throw new AppError(
        "BAD_CHECKPOINT",
        `The checkpoint has no tensor ${name}, which config.json asks for (model_type "${this.#family}"). ` +
          "Check that all of its files are there, and that config.json belongs to them.",
        { details: { tensor: name, expected } },
      );
    }
    const fits =
      found.shape.length === shape.length && shape.every((n, i) => n === null || n === found.shape[i]);
    if (!fits) {
      const actual = `[${found.shape.join(", ")}]`;
      throw new AppError(
        "BAD_CHECKPOINT",
        `${name} has shape ${actual}, and config.json (model_type "${this.#family}") makes it ${expected}. ` +
          "Check that config.json belongs to these weights.",
        { details: { tensor: name, expected, actual } },
      );
    }
    if (!isMergeable(found.dtype)) {
      throw unsupported(
        this.#family,
        name,
        `${name} is stored as ${found.dtype}; a forward pass reads float32, float16 and bfloat16.`,
      );
    }
    this.#taken.add(name);
    return name;
  }

  /** `<module>.weight`, stored [out, in], and its bias where there is one. */
  linear(module: string, [out, into]: readonly [Size, Size], bias = false): LinearSpec {
    return {
      weight: this.take(`${module}.weight`, [out, into]),
      bias: bias ? this.take(`${module}.bias`, [out]) : null,
      layout: "out-in",
    };
  }

  /** transformers' Conv1D: stored [in, out], always with a bias. */
  conv1d(module: string, [out, into]: readonly [number, number]): LinearSpec {
    return {
      weight: this.take(`${module}.weight`, [into, out]),
      bias: this.take(`${module}.bias`, [out]),
      layout: "in-out",
    };
  }

  rms(module: string, width: number, epsilon: number, plusOne = false): NormSpec {
    return { kind: "rms", weight: this.take(`${module}.weight`, [width]), bias: null, epsilon, plusOne };
  }

  layerNorm(module: string, width: number, epsilon: number): NormSpec {
    return {
      kind: "layer",
      weight: this.take(`${module}.weight`, [width]),
      bias: this.take(`${module}.bias`, [width]),
      epsilon,
      plusOne: false,
    };
  }

  /**
   * Refuses the first tensor of the model or of its head `head` that nothing took: a bias, scale or layer that the
   * config does not speak of. Tensors of other parts, such as an image encoder, are none of this model's business.
   */
  refuseLeftOver(head: string): void {
    const roots =
      this.prefix === ""
        ? new Set([...this.#taken].map((name) => name.slice(0, name.indexOf(".") + 1)))
        : new Set([this.prefix, `${head}.`]);
    for (const name of this.#declared.keys()) {
      if (this.#taken.has(name) || STORED_BUFFERS.test(name)) continue;
      if (![...roots].some((root) => name.startsWith(root))) continue;
      throw unsupported(
        this.#family,
        name,
        `The checkpoint holds ${name}, which a model of model_type "${this.#family}" with this config.json does not use.`,
      );
    }
  }
}
