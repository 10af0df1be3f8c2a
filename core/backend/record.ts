/**
 * Records straight-line model code into a plan: one OpRecord per call, shapes unified against the op's row as it is recorded.
 * It runs nothing and allocates nothing, so the memory of a run is known before it starts.
 * A mismatch is a bug of the caller and throws with the op, the argument, the found and the expected shape.
 */
import { opTable, type DType, type OpName, type OpRecord, type Plan, type Recording, type Shape, type Tensor } from './backend.ts'
import { isPacked } from './packed.ts'

type Spec = {
  out?: Record<string, string>
  inout?: Record<string, string>
  in?: Record<string, string>
  optional?: Record<string, string>
  attrs?: readonly string[]
}

/** Argument names of an op in record order, with their dims and whether the op writes them. */
export type OpArgument = { name: string; dims: string; writes: boolean; reads: boolean; optional: boolean }

/** The tensor arguments of `op` in the order of OpRecord.tensors. */
export function opArguments(op: OpName): OpArgument[] {
  const spec: Spec = opTable[op]
  const list = (of: Record<string, string> | undefined, writes: boolean, reads: boolean, optional: boolean): OpArgument[] =>
    Object.entries(of ?? {}).map(([name, dims]) => ({ name, dims, writes, reads, optional }))
  return [
    ...list(spec.out, true, false, false),
    ...list(spec.inout, true, true, false),
    ...list(spec.in, false, true, false),
    ...list(spec.optional, false, true, true),
  ]
}

/** What an argument's "dtype? dims" asks for. */
export function argumentKind(dims: string): { kind: 'f32' | 'i32' | 'packed'; dims: string } {
  const [first = '', ...rest] = dims.split(' ')
  return first === 'i32' || first === 'packed' ? { kind: first, dims: rest.join(' ') } : { kind: 'f32', dims }
}

/** The attribute names of `op` in the order of OpRecord.attrs. */
export function opAttributes(op: OpName): readonly string[] {
  return (opTable[op] as Spec).attrs ?? []
}

/** Size of one dim under `bound` letters, or the letter itself when it is not bound yet. */
function resolveDim(dim: string, bound: Map<string, number>): number | string {
  if (/^\d+$/.test(dim)) return Number(dim)
  const plus = dim.indexOf('+')
  if (plus > 0) {
    const base = resolveDim(dim.slice(0, plus), bound)
    return typeof base === 'number' ? base + Number(dim.slice(plus + 1)) : dim
  }
  const factors = dim.split('*').map((factor) => (/^\d+$/.test(factor) ? Number(factor) : bound.get(factor)))
  return factors.every((factor) => factor !== undefined) ? factors.reduce((a, b) => a * b, 1) : dim
}

/** Binds what a still open dim says about `size`: a letter to the size itself, a product's one open letter to the quotient. */
function bindDim(dim: string, size: number, bound: Map<string, number>): boolean {
  if (dim.includes('+')) {
    const [letter = '', addend = '0'] = dim.split('+')
    bound.set(letter, size - Number(addend))
    return true
  }
  let rest = size
  let open = ''
  for (const factor of dim.split('*')) {
    const known = /^\d+$/.test(factor) ? Number(factor) : bound.get(factor)
    if (known !== undefined) rest /= known
    else if (open === '') open = factor
    else return true
  }
  if (!Number.isInteger(rest)) return false
  bound.set(open, rest)
  return true
}

function checkArgument(op: OpName, argument: OpArgument, tensor: Tensor, bound: Map<string, number>): void {
  const { kind, dims: text } = argumentKind(argument.dims)
  const fail = (): never => {
    const found = `${tensor.dtype}[${tensor.shape.join(', ')}]`
    const where = [...bound].map(([letter, size]) => `${letter}=${size}`).join(' ')
    throw new Error(`${op}: ${argument.name} ("${tensor.name}") is ${found}, expected ${kind}[${text}] with ${where}`)
  }
  if (isPacked(tensor) ? kind !== 'packed' : tensor.dtype !== kind) fail()
  if (argument.dims === '*') {
    const size = tensor.shape.reduce((a, b) => a * b, 1)
    if ((bound.get('*') ?? size) !== size) fail()
    if (op === 'adamwStep') bound.set('*', size)
    return
  }
  const dims = text.split(' ')
  if (dims.length !== tensor.shape.length) fail()
  dims.forEach((dim, axis) => {
    const size = tensor.shape[axis]!
    const expected = resolveDim(dim, bound)
    if (typeof expected === 'number' ? expected !== size : !bindDim(dim, size, bound)) fail()
  })
}

/**
 * The size behind every letter of an op's dims (`*` for an any-shape op's element count), from its tensors and attributes.
 * Throws when they do not agree with the op's row.
 */
export function opLetters(op: OpName, tensors: readonly (Tensor | null)[], attrs: readonly number[]): Record<string, number> {
  const bound = new Map<string, number>()
  opAttributes(op).forEach((name, i) => /^[A-Z]$/.test(name) && bound.set(name, attrs[i]!))
  // Twice: a product of two open letters says nothing on the first look.
  for (let look = 0; look < 2; look++) {
    opArguments(op).forEach((argument, i) => tensors[i] && checkArgument(op, argument, tensors[i], bound))
  }
  return Object.fromEntries(bound)
}

function recordOp(op: OpName, args: Record<string, Tensor | number | undefined>): OpRecord {
  const attrs = opAttributes(op).map((name) => {
    const value = args[name]
    if (typeof value !== 'number' || !Number.isFinite(value)) throw new Error(`${op}: attribute ${name} is ${String(value)}, expected a number`)
    return value
  })
  const tensors = opArguments(op).map((argument) => {
    const tensor = args[argument.name]
    if (tensor === undefined && argument.optional) return null
    if (tensor === undefined || typeof tensor === 'number') throw new Error(`${op}: tensor ${argument.name} is missing`)
    return tensor
  })
  opLetters(op, tensors, attrs)
  checkAliases(op, tensors)
  return { op, tensors, attrs }
}

function checkAliases(op: OpName, tensors: readonly (Tensor | null)[]): void {
  const args = opArguments(op)
  tensors.forEach((tensor, i) => {
    if (tensor === null || !args[i]!.writes) return
    tensors.forEach((other, j) => {
      if (i !== j && other === tensor) throw new Error(`${op}: ${args[i]!.name} and ${args[j]!.name} are both "${tensor.name}"; an output may alias nothing`)
    })
  })
}

/**
 * Runs `pass` against a recorder and returns what it recorded.
 * `pass` must not branch on tensor values: none exist yet.
 */
export function record(name: string, pass: (b: Recording) => void): Plan {
  const records: OpRecord[] = []
  const recorder: Record<string, unknown> = {
    scratch: (tensorName: string, shape: Shape, dtype: DType = 'f32'): Tensor => ({ name: tensorName, shape, dtype, place: 'scratch' }),
  }
  for (const op of Object.keys(opTable) as OpName[]) {
    recorder[op] = (args: Record<string, Tensor | number | undefined>) => records.push(recordOp(op, args))
  }
  pass(recorder as Recording)
  return { name, records }
}
