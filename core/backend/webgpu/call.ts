/**
 * What a lowering sees of one op (Call) and what it makes (Dispatch): a kernel, the parts of tensors it is bound to, parameters, workgroups.
 * Shapes are static, so all of it is decided before a plan runs and nothing waits for a number from the device.
 */
import { elementCount, type DType, type OpName, type Shape, type Tensor } from '../backend.ts'

/** A part of a tensor; the offset is a multiple of the alignment. */
export type Slice = { readonly tensor: Tensor; readonly byteOffset: number; readonly byteLength: number }

export type Dispatch = {
  readonly op: OpName
  readonly kernel: string
  /** No width is a multiple of four: the kernel without vector loads. */
  readonly scalar: boolean
  readonly slices: Readonly<Record<string, Slice>>
  readonly params: Readonly<Record<string, number>>
  readonly groups: readonly [number, number, number]
}

/** A whole tensor, or the rows `from`..`from + count` of its first axis, each of `rowElements` when that is not what the shape says. */
export type Part = Tensor | { readonly tensor: Tensor; readonly from: number; readonly count: number; readonly rowElements?: number }

export type DispatchOptions = {
  tensors?: Readonly<Record<string, Part | undefined>>
  params?: Readonly<Record<string, number>>
  groups: readonly [number, number?, number?]
  scalar?: boolean
}

/** One op being lowered. */
export type Call = {
  /** Tensors by argument name; optional ones may be missing. */
  readonly t: Readonly<Record<string, Tensor>>
  /** Letters of the shapes and attributes by name. */
  readonly n: Readonly<Record<string, number>>
  readonly maxBindingBytes: number
  /** A tensor that lives between this op's kernels. */
  hidden(name: string, shape: Shape, dtype?: DType): Tensor
  /** A tensor of fixed numbers, shared by all plans of a device that ask for the same `name`. */
  constant(name: string, shape: Shape, data: () => Uint32Array): Tensor
  /** Something derived from `tensor` that later ops of the plan find again until `tensor` is written anew. */
  derived(tensor: Tensor, name: string, make: () => Tensor): Tensor
  /** Elements `from`..`from + count` of an argument of any shape. */
  slice(name: string, from: number, count: number): Part
  /** Columns of a tile of a matrix product. */
  tileColumns(scalar: boolean): number
  /** Runs a kernel. Its bindings are `tensors`, else the op's arguments of that name; its parameters likewise, and has<Name> tells of an optional one. */
  dispatch(kernel: string, options: DispatchOptions): void
}

export type Lowering = (call: Call) => void

/** Workgroups of a row or block kernel: one dimension holds 65,535, so the index is folded into two (lib/grid.wgsl). */
export const foldGroups = (count: number): [number, number] => [Math.min(count, 32768), Math.ceil(count / 32768)]

/** Workgroups of a kernel whose threads, 64 a workgroup, take one element each. */
export const elementGroups = (count: number): [number, number] => foldGroups(Math.ceil(count / 64))

export function sliceOf(part: Part): Slice {
  if (!('tensor' in part)) return { tensor: part, byteOffset: 0, byteLength: elementCount(part) * 4 }
  const rowBytes = (part.rowElements ?? elementCount(part.tensor) / part.tensor.shape[0]!) * 4
  return { tensor: part.tensor, byteOffset: part.from * rowBytes, byteLength: part.count * rowBytes }
}

/**
 * Consecutive windows of `rows` rows of `rowElements` elements, each of at most `maxBytes` and beginning on the alignment.
 */
export function windowsOf(rows: number, rowElements: number, maxBytes: number): { from: number; count: number }[] {
  let step = 64 // rows that always end on the alignment of 256 bytes
  while (step > 1 && ((step / 2) * rowElements) % 64 === 0) step /= 2
  const most = Math.max(step, Math.floor(maxBytes / (rowElements * 4) / step) * step)
  const windows: { from: number; count: number }[] = []
  for (let from = 0; from < rows; from += most) windows.push({ from, count: Math.min(most, rows - from) })
  return windows
}
