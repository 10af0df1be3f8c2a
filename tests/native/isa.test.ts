/**
 * Every instruction set that this processor has: within float32 rounding of the referee, on the op cases and on shapes
 * that cross every block of the kernels, and the same bits with 1, 2 and 3 threads.
 */
import { afterAll, describe, expect, test, vi } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { loadNative } from '#native/index.ts'
import { opCases, type OpCase } from '#tests/ops/cases.ts'
import { inferenceCases } from '#tests/ops/inference-cases.ts'
import { relativeError, runCase, type Values } from '#tests/ops/run-case.ts'

const threadCounts = [1, 2, 3]
const isas = loadNative().instructionSets()
const reference = createReferenceBackend()
const backends = isas.map((isa) => ({ isa, byThreads: threadCounts.map((threads) => createCpuBackend({ isa, threads })) }))
const expectedOf = new Map<OpCase, Promise<Values>>()

afterAll(async () => {
  for (const backend of backends.flatMap(({ byThreads }) => byThreads)) await backend.close()
})

const large = (op: OpCase['op'], label: string, sizes: OpCase['sizes'], more: Partial<OpCase> = {}): OpCase => ({
  op, label, sizes, attrs: {}, given: {}, optional: [], tolerance: 1e-5, flops: () => 0, ...more,
})

/** Nine million numbers without a random generator. */
const cheap = ({ N, J }: OpCase['sizes']): Float64Array => new Float64Array(N! * J!).map((_, i) => ((i * 7919) % 1009) / 1009 - 0.5)

const counts = Array.from({ length: 70 }, (_, e) => (e * 5) % 13)
const slots = counts.reduce((a, b) => a + b)
const groups = { offsets: () => counts.reduce((offsets, count) => [...offsets, offsets.at(-1)! + count], [0]) }
const groupSizes = { S: slots, R: slots, Y: slots, X: slots, E: counts.length, N: 40, J: 24 }
const attention = { attrs: { H: 4, G: 2, sequence: 310 } }
const attentionSizes = { T: 620, C: 24, H: 4, G: 2 }
const head = { given: { targets: ({ T, V }: OpCase['sizes']) => Array.from({ length: T! }, (_, t) => (t * 37) % V!), lse: ({ T }: OpCase['sizes']) => new Array<number>(T!).fill(22) } }

const largeCases: OpCase[] = [
  large('linearForward', 'blocks of depth, rows and columns', { T: 110, N: 700, J: 1100 }, { optional: ['add'] }),
  large('linearBackwardInput', 'blocks of depth, rows and columns', { T: 110, N: 1100, J: 700 }),
  large('linearBackwardWeight', 'blocks of depth, rows and columns', { T: 1100, N: 110, J: 700 }),
  large('groupedLinearForward', 'more experts than one batch', groupSizes, { given: groups }),
  large('groupedLinearBackwardInput', 'more experts than one batch', groupSizes, { given: groups }),
  large('groupedLinearBackwardWeight', 'more experts than one batch', groupSizes, { given: groups }),
  large('attentionForward', 'blocks of queries and keys', attentionSizes, attention),
  large('attentionBackward', 'blocks of queries and keys', attentionSizes, { ...attention, given: { lse: ({ T, H }) => new Array<number>(T! * H!).fill(6) } }),
  large('attentionCachedForward', 'a prompt', { T: 150, C: 24, H: 4, G: 2, P: 400 }, { attrs: { H: 4, G: 2 }, given: { positions: () => Array.from({ length: 150 }, (_, t) => (t > 140 ? -1 : t + 200)) } }),
  large('headCrossEntropyForward', 'blocks of tokens', { T: 530, D: 40, V: 300 }, head),
  large('headCrossEntropyBackward', 'blocks of tokens', { T: 530, D: 40, V: 300 }, head),
  large('adamwStep', 'many ranges', { X: 100_003 }, opCases.find(({ op }) => op === 'adamwStep')),
].map((opCase) => (opCase.op === 'adamwStep' ? { ...opCase, sizes: { X: 100_003 } } : opCase))

/** Slow to draw, and the same code for every instruction set: only the best one runs it. */
const hugeCase = large('linearForward', 'more of B than is packed at a time', { T: 5, N: 9001, J: 1000 }, { given: { weight: cheap } })

describe.each(backends)('$isa', ({ isa, byThreads }) => {
  test('is what was asked for', () => {
    expect(byThreads.map((backend) => [backend.isa, backend.threads])).toEqual(threadCounts.map((threads) => [isa, threads]))
  })

  test.each([...opCases, ...inferenceCases, ...largeCases, ...(isa === isas[0] ? [hugeCase] : [])].map((opCase) => ({ title: `${opCase.op}: ${opCase.label}`, opCase })))('$title', async ({ opCase }) => {
    if (!expectedOf.has(opCase)) expectedOf.set(opCase, runCase(reference, opCase))
    const expected = await expectedOf.get(opCase)!
    const [found, ...others] = await Promise.all(byThreads.map((backend) => runCase(backend, opCase)))
    for (const [name, values] of Object.entries(expected)) {
      expect(relativeError(found![name]!, values), name).toBeLessThanOrEqual(opCase.tolerance)
      for (const [i, other] of others.entries()) {
        const bits = (data: Values[string]) => Buffer.from(data.buffer, data.byteOffset, data.byteLength)
        expect(bits(other[name]!).equals(bits(found![name]!)), `${name}: the bits differ with ${threadCounts[i + 1]} threads`).toBe(true)
      }
    }
  })
})

describe('the environment variable MOE_ISA', () => {
  test('forces an instruction set', async () => {
    vi.stubEnv('MOE_ISA', 'portable')
    const backend = createCpuBackend({ threads: 1 })
    expect(backend.isa).toBe('portable')
    expect(backend.description).toMatch(/ · portable · 1 thread/)
    await backend.close()
    vi.unstubAllEnvs()
  })

  test('names what there is when it asks for another', () => {
    vi.stubEnv('MOE_ISA', 'avx1024')
    expect(() => createCpuBackend()).toThrow(expect.objectContaining({ name: 'AppError', code: 'backend.isa', params: { found: 'avx1024', expected: isas.join(', ') } }))
    vi.unstubAllEnvs()
  })
})
