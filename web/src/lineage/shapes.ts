import type { ModelKind } from "../../../src/client/types.ts";

/** What a shape is drawn into; `x` and `y` are the top left corner. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/**
 * The outline of a node as the `d` of a path: a rectangle for a base, a hexagon for an adapter, an octagon for a
 * merge, a slanted box for a quantised model. Kinds differ in shape and word, not in colour alone.
 */
export function shapePath(kind: ModelKind, { x, y, width, height }: Box): string {
  const [right, bottom] = [x + width, y + height];
  const cut = height * 0.24;
  const point = (px: number, py: number) => `${px} ${py}`;
  const closed = (points: string[]) => `M${points.join("L")}Z`;
  switch (kind) {
    case "BASE":
      return closed([point(x, y), point(right, y), point(right, bottom), point(x, bottom)]);
    case "ADAPTER":
      return closed([
        point(x + cut, y),
        point(right - cut, y),
        point(right, y + height / 2),
        point(right - cut, bottom),
        point(x + cut, bottom),
        point(x, y + height / 2),
      ]);
    case "MERGED":
      return closed([
        point(x + cut, y),
        point(right - cut, y),
        point(right, y + cut),
        point(right, bottom - cut),
        point(right - cut, bottom),
        point(x + cut, bottom),
        point(x, bottom - cut),
        point(x, y + cut),
      ]);
    case "QUANTIZED":
      return closed([point(x + cut, y), point(right, y), point(right - cut, bottom), point(x, bottom)]);
  }
}
