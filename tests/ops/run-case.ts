/** Runs one op case, or one op on given numbers, on a backend and returns everything the op wrote. */
import { elementCount, persistent, type Backend, type OpName, type PackedDType, type Recording, type Tensor, type TensorData } from '#core/backend/backend.ts'
import { isPacked } from '#core/backend/packed.ts'
import { record } from '#core/backend/record.ts'
import { argumentData, caseArguments, packedData, type OpCase } from './cases.ts'

export type Values = Record<string, TensorData>

/** Runs `opCase` with its own inputs, some replaced by `overrides`; outputs start as garbage so that an unwritten element shows. */
export async function runCase(backend: Backend, opCase: OpCase, overrides: Values = {}): Promise<Values> {
  const args = caseArguments(opCase).map((argument) => ({ ...argument, tensor: persistent(argument.name, argument.shape, argument.dtype) }))
  const [packed, plain] = [args.filter(({ tensor }) => isPacked(tensor)), args.filter(({ tensor }) => !isPacked(tensor))]
  const tensors = plain.map(({ tensor }) => tensor)
  backend.allocate(tensors)
  for (const { name, dtype, tensor } of packed) backend.load!(packedData(opCase, name, dtype as PackedDType), [{ tensor, byteOffset: 0 }])
  for (const { name, reads, dtype, tensor } of plain) {
    const count = elementCount(tensor)
    const garbage = dtype === 'i32' ? new Int32Array(count).fill(-77) : new Float64Array(count).fill(1e30)
    await backend.write(tensor, overrides[name] ?? (reads ? argumentData(opCase, name, dtype, count) : garbage))
  }
  await runOp(backend, opCase.op, Object.fromEntries(args.map(({ name, tensor }) => [name, tensor])), opCase.attrs)
  const written: Values = {}
  for (const { name, writes, tensor } of args) if (writes) written[name] = await backend.read(tensor)
  backend.release(tensors)
  for (const { tensor } of packed) backend.release([tensor])
  return written
}

async function runOp(backend: Backend, op: OpName, tensors: Record<string, Tensor>, attrs: Readonly<Record<string, number>>): Promise<void> {
  const plan = record(op, (b: Recording) => (b[op] as (args: object) => void)({ ...tensors, ...attrs }))
  await (await backend.prepare(plan)).run()
}

/** Largest |found − expected| over the largest |expected|; integers must be equal (else Infinity). */
export function relativeError(found: TensorData, expected: TensorData): number {
  if (found.length !== expected.length) return Infinity
  let worst = 0
  let magnitude = 1e-30
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(found[i]! - expected[i]!)
    if (Number.isNaN(difference)) return Infinity
    worst = Math.max(worst, difference)
    magnitude = Math.max(magnitude, Math.abs(expected[i]!))
  }
  if (expected instanceof Int32Array) return worst === 0 ? 0 : Infinity
  return worst / magnitude
}
