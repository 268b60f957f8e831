type Unary = (source: number, target: number, elements: number) => void;
export type Merge = (
  w: number,
  rows: number,
  cols: number,
  a: number,
  b: number,
  rank: number,
  scale: number,
) => number;
type Multiply = (target: number, rows: number, cols: number, a: number, b: number, rank: number) => void;
type PackRow = (source: number, target: number, cols: number, k: number, rank: number) => void;
type Statistics = (at: number, elements: number, out: number) => void;
type Differing = (at: number, other: number, elements: number) => number;
/** Operands with the bytes from row to row, and 1 where they have all columns, 0 where one element serves them. */
type Binary = (
  target: number,
  a: number,
  aRow: number,
  aCol: number,
  b: number,
  bRow: number,
  bCol: number,
  rows: number,
  cols: number,
) => void;
type ByRows = (source: number, target: number, rows: number, cols: number) => void;
type Gather = (
  source: number,
  target: number,
  map: number,
  rows: number,
  sourceCols: number,
  targetCols: number,
) => void;
type Kron = (
  target: number,
  left: number,
  leftCols: number,
  right: number,
  rightRows: number,
  rightCols: number,
  first: number,
  rows: number,
) => void;
type Accumulate = (
  sums: number,
  left: number,
  leftRow: number,
  m: number,
  tile: number,
  rows: number,
  cols: number,
) => void;

type Turn = (
  target: number,
  source: number,
  rows: number,
  width: number,
  size: number,
  panels: number,
  blockBytes: number,
  limits: number,
) => void;
type Reflect = (
  target: number,
  source: number,
  rows: number,
  width: number,
  directions: number,
  count: number,
  work: number,
) => void;
type Pair = (target: number, f: number, x: number, g: number, y: number, count: number) => void;
type Measure = (w: number, c: number, d: number, elements: number, out: number) => void;

/** What the module in src/engine/wasm exports; positions are byte offsets into its memory. */
export interface Exports {
  widenBf16: Unary;
  widenF16: Unary;
  widenF32: Unary;
  roundBf16: Unary;
  roundF16: Unary;
  roundF32: Unary;
  statsBf16: Statistics;
  statsF16: Statistics;
  statsF32: Statistics;
  differing16: Differing;
  differing32: Differing;
  packRow: PackRow;
  mergeBf16: Merge;
  mergeF16: Merge;
  mergeF32: Merge;
  mergeBf16Emulated: Merge;
  mergeF16Emulated: Merge;
  mergeF32Emulated: Merge;
  mergeBf16First: Merge;
  mergeF16First: Merge;
  mergeBf16FirstEmulated: Merge;
  mergeF16FirstEmulated: Merge;
  multiply: Multiply;
  multiplyEmulated: Multiply;
  multiplyUnfused: Multiply;
  addFloats: Binary;
  subFloats: Binary;
  mulFloats: Binary;
  divFloats: Binary;
  addDoubles: Binary;
  subDoubles: Binary;
  mulDoubles: Binary;
  divDoubles: Binary;
  throughBf16: Unary;
  throughF16: Unary;
  reluFloats: Unary;
  reluDoubles: Unary;
  laneNormsFused: ByRows;
  laneNormsEmulated: ByRows;
  sequenceNorms: ByRows;
  doubleNorms: ByRows;
  exactNorms: ByRows;
  addSquaresFloats: ByRows;
  addSquaresMixed: ByRows;
  addSquaresDoubles: ByRows;
  rootsFloats: Unary;
  rootsMixed: Unary;
  rootsDoubles: Unary;
  gatherFloats: Gather;
  gatherDoubles: Gather;
  copyRuns: (
    source: number,
    target: number,
    rows: number,
    bytes: number,
    fromBytes: number,
    toBytes: number,
  ) => void;
  kronFloats: Kron;
  kronDoubles: Kron;
  accumulateFused: Accumulate;
  accumulateEmulated: Accumulate;
  accumulateUnfused: Accumulate;
  accumulateDoubles: Accumulate;
  widenDoubleBf16: Unary;
  widenDoubleF16: Unary;
  widenDoubleF32: Unary;
  roundDoubleBf16: Unary;
  roundDoubleF16: Unary;
  roundDoubleF32: Unary;
  packDoubles: PackRow;
  multiplyDoubles: Multiply;
  turnFused: Turn;
  turnEmulated: Turn;
  turnDoubles: Turn;
  reflectFloats: Reflect;
  reflectDoubles: Reflect;
  pairFused: Pair;
  pairEmulated: Pair;
  pairUnfused: Pair;
  pairDoubles: Pair;
  measureBf16: Measure;
  measureF16: Measure;
  measureF32: Measure;
  distances: (
    k: number,
    c: number,
    w: number,
    elements: number,
    out: number,
    place: number,
    least: number,
    floor: number,
  ) => void;
  relaxedMadd: (a: number, b: number, c: number) => number;
  emulatedMadd: (a: number, b: number, c: number) => number;
}
