/** The addon by itself: its op table, what it refuses, its memory, and that a run leaves the event loop free. */
import { existsSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, describe, expect, test } from 'vitest'
import { opTable, type OpName } from '#core/backend/backend.ts'
import { opArguments, opAttributes } from '#core/backend/record.ts'
import { loadNative, type NativeContext, type NativeMemory, type NativePlan, type NativeRecord } from '#native/index.ts'

const native = loadNative()
const context = native.createContext({ threads: 2 })
const ops = Object.keys(opTable) as OpName[]
const megabyte = 2 ** 20

afterAll(() => context.close())

/** A plan of `count` products of size × size matrices in `memory`, which must hold three of them. */
function products(of: NativeContext, memory: NativeMemory, size: number, count: number): NativePlan {
  const at = (index: number) => ({ memory, byteOffset: index * size * size * 4, shape: [size, size] })
  const record: NativeRecord = { op: 'linearForward', tensors: [at(0), at(1), at(2), null], attrs: [] }
  return of.prepare(Array.from({ length: count }, () => record))
}

describe('op table', () => {
  const bare = (op: string, tensors: unknown[], attrs: unknown[]): void => void context.prepare([{ op, tensors, attrs } as NativeRecord])

  test.each(ops)('%s takes the tensors and attributes of its row', (op) => {
    const args = opArguments(op)
    const attributes = opAttributes(op).length
    expect(() => bare(op, [], [])).toThrow(`(${op}) has 0 tensors, expected ${args.length}`)
    const left = args.map(() => null)
    expect(() => bare(op, left, Array(attributes + 1).fill(1))).toThrow(`has ${attributes + 1} attrs, expected ${attributes}`)
    // The first tensor is never optional; of the last, the addon and the row agree.
    const memory = context.allocate(4096)
    const given = args.map((): NativeRecord['tensors'][number] => ({ memory, byteOffset: 0, shape: [1, 1, 1] }))
    const ones = Array(attributes).fill(1)
    args.forEach(({ optional }, i) => {
      const without = given.with(i, null)
      if (optional) bare(op, without, ones)
      else expect(() => bare(op, without, ones)).toThrow(`tensors[${i}] is null, expected an object`)
    })
    memory.free()
  })

  test('has no op that the backend does not have', () => {
    expect(() => bare('linearSideways', [], [])).toThrow(new TypeError('prepare: records[0].op is "linearSideways", expected the name of an op'))
  })
})

describe('refuses', () => {
  const memory = context.allocate(1024)
  const tensor = (change: object) => ({ memory, byteOffset: 0, shape: [4, 4], ...change })
  const withTensor = (change: object) => () => context.prepare([{ op: 'gatherRowsForward', tensors: [tensor(change), tensor({}), tensor({})], attrs: [] }] as NativeRecord[])
  const wrong = (call: (...args: never[]) => unknown, ...args: unknown[]) => () => call(...(args as never[]))
  const where = 'prepare: records[0] (gatherRowsForward).tensors[0]'

  test.each<[string, () => unknown, Error]>([
    ['no options', wrong(native.createContext), new TypeError('createContext: options is undefined, expected an object')],
    ['no threads', () => native.createContext({ threads: 0 }), new TypeError('createContext: threads is 0, expected an integer from 1 to 1024')],
    ['half a thread', () => native.createContext({ threads: 1.5 }), new TypeError('createContext: threads is 1.5, expected an integer from 1 to 1024')],
    ['an unknown instruction set', () => native.createContext({ isa: 'mmx' }), new TypeError(`createContext: isa is "mmx", expected one that this processor has: ${native.instructionSets().join(', ')}`)],
    ['records that are none', wrong(context.prepare.bind(context), 7), new TypeError('prepare: records is 7, expected an array')],
    ['a record that is none', wrong(context.prepare.bind(context), ['x']), new TypeError('prepare: records[0] is "x", expected an object')],
    ['memory that is none', withTensor({ memory: {} }), new TypeError(`${where}.memory is [object Object], expected a Memory`)],
    ['an empty shape', withTensor({ shape: [4, 0] }), new TypeError(`${where}.shape[1] is 0, expected an integer from 1 to ${2 ** 40}`)],
    ['five dims', withTensor({ shape: [1, 1, 1, 1, 1] }), new TypeError(`${where}.shape is 1,1,1,1,1, expected at most 4 sizes`)],
    ['an offset inside a float', withTensor({ byteOffset: 2 }), new TypeError(`${where}.byteOffset is 2, expected a multiple of 4`)],
    ['a tensor past the end', withTensor({ byteOffset: 1000 }), new RangeError(`${where}: ends at byte 1064 of 1024`)],
    ['an attribute that is no number', () => context.prepare([{ op: 'clipScale', tensors: [tensor({}), tensor({})], attrs: ['1' as never] }]), new TypeError('prepare: records[0] (clipScale).attrs[0] is "1", expected a number')],
    ['a write past the end', () => memory.write(1020, new Float32Array(2)), new RangeError('write: bytes 1020 to 1028 of 1024')],
    ['a read past the end', () => memory.read(0, new Float32Array(257)), new RangeError('read: bytes 0 to 1028 of 1024')],
    ['a negative offset', () => memory.write(-4, new Float32Array(1)), new TypeError(`write: byteOffset is -4, expected an integer from 0 to ${2 ** 46}`)],
    ['a write of no typed array', wrong(memory.write.bind(memory), 0, [1, 2]), new TypeError('write: data is 1,2, expected a typed array')],
    ['a size that is none', wrong(context.allocate.bind(context), NaN), new TypeError(`allocate: bytes is NaN, expected an integer from 0 to ${2 ** 46}`)],
  ])('%s', (_, call, error) => expect(call).toThrow(error))

  test('more memory than there is, as ENOMEM', () => {
    expect(() => context.allocate(2 ** 46)).toThrow(expect.objectContaining({ code: 'ENOMEM' }))
  })
})

describe('memory', () => {
  test('is zero, keeps what is written at any offset, and copies', () => {
    const memory = context.allocate(64)
    const out = new Float32Array(16)
    memory.write(8, Float32Array.of(1, 2, 3).subarray(1))
    memory.read(0, out)
    expect([...out.subarray(0, 6)]).toEqual([0, 0, 2, 3, 0, 0])
    memory.write(0, new Float32Array(16).fill(9))
    expect(out[0]).toBe(0)
    memory.resize(128)
    memory.read(0, out)
    expect(memory.byteLength).toBe(128)
    expect(Math.max(...out)).toBe(0)
  })

  test('goes back to the system when freed; a plan that names it rejects', async () => {
    const size = 4096
    const memory = context.allocate(3 * size * size * 4)
    const plan = products(context, memory, size, 1)
    memory.write(0, new Uint8Array(3 * size * size * 4).fill(1))
    const held = process.memoryUsage.rss()
    memory.free()
    expect(held - process.memoryUsage.rss()).toBeGreaterThan(150 * megabyte)
    expect(() => memory.read(0, new Float32Array(1))).toThrow('this memory has been freed')
    await expect(plan.run()).rejects.toThrow('a tensor of this plan has been freed')
  })
})

describe('a mapped file', () => {
  const path = join(mkdtempSync(join(tmpdir(), 'moe-map-')), 'numbers')
  writeFileSync(path, new Uint8Array(Float32Array.from({ length: 3000 }, (_, i) => i).buffer))

  test('is memory that is read and not written', () => {
    const memory = context.map(path)
    expect(memory.byteLength).toBe(12_000)
    const out = new Float32Array(2)
    memory.read(8000, out)
    expect([...out]).toEqual([2000, 2001])
    expect(() => memory.write(0, out)).toThrow('write: a mapped file is read-only')
    expect(() => memory.resize(8)).toThrow('resize: a mapped file has its size')
    memory.free()
    expect(() => memory.read(0, out)).toThrow('this memory has been freed')
  })

  test('that is not there is refused with the reason', () => {
    expect(() => context.map(`${path}.not`)).toThrow(/^map: .*numbers\.not: .+/)
    expect(() => context.map(7 as never)).toThrow('map: path is 7, expected a string')
  })

  test('is unmapped while it is still being read ahead', () => {
    for (let i = 0; i < 50; i++) context.map(process.execPath).free()
  })
})

describe('a packed tensor', () => {
  const bind = (shape: number[], format: string) => () => {
    const memory = context.allocate(4096)
    const plain = { memory, byteOffset: 0, shape: [1, 32] }
    context.prepare([{ op: 'linearPackedForward', tensors: [plain, plain, { memory, byteOffset: 0, shape, format: format as 'q4' }, null], attrs: [] }])
  }
  test('needs the bytes of its strips', () => {
    expect(bind([200, 32], 'q4')).not.toThrow()
    expect(bind([240, 32], 'q4')).toThrow('ends at byte 4320 of 4096')
    expect(bind([113, 32], 'q8')).toThrow('ends at byte 4352 of 4096')
    expect(bind([17, 33], 'bf16')).not.toThrow()
  })
  test('has whole blocks and a known form', () => {
    expect(bind([16, 40], 'q4')).toThrow('expected that of a packed matrix, in whole blocks')
    expect(bind([32], 'q8')).toThrow('expected that of a packed matrix, in whole blocks')
    expect(bind([16, 32], 'q5')).toThrow('format is "q5", expected one of bf16, q8, q4')
  })
})

describe('a run', () => {
  const size = 512
  const memory = context.allocate(3 * size * size * 4)

  test('leaves the event loop free, and its context refuses what would touch memory', async () => {
    const plan = products(context, memory, size, 100)
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    const run = plan.run()
    for (const call of [() => plan.run(), () => memory.read(0, new Float32Array(1)), () => memory.write(0, new Float32Array(1)), () => memory.free(), () => memory.resize(8), () => context.prepare([]), () => context.close(), () => context.measurePeak()]) {
      expect(call).toThrow('a run is in flight')
    }
    await run
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(5)
    memory.read(0, new Float32Array(1))
  })

  test('on the calling thread does the same at once', async () => {
    const plan = products(context, memory, size, 2)
    memory.write(0, new Float32Array(3 * size * size).fill(1))
    plan.runNow()
    const y = new Float32Array(1)
    memory.read(0, y)
    expect(y[0]).toBe(size)
    // Long enough to be under way still when the next line comes, however busy the machine.
    const long = products(context, memory, size, 200)
    const run = long.run()
    expect(() => plan.runNow()).toThrow('run: a run is in flight')
    await run
  })

  test('times its ops', async () => {
    const before = context.profile()['linearForward'] ?? 0
    const start = performance.now()
    await products(context, memory, size, 5).run()
    const nanoseconds = context.profile()['linearForward']! - before
    expect(nanoseconds).toBeGreaterThan(10_000)
    expect(nanoseconds).toBeLessThan((performance.now() - start) * 1e6)
  })

  test('measures a peak of more than a billion FLOP/s', async () => {
    expect(await context.measurePeak()).toBeGreaterThan(1e9)
  })

  test('leaks neither over many runs nor over many contexts; closing ends the threads', async () => {
    const threads = (): number => (existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : 0)
    const churn = async (): Promise<void> => {
      const other = native.createContext({ threads: 3 })
      const own = other.allocate(3 * 64 * 64 * 4)
      const plan = products(other, own, 64, 3)
      for (let i = 0; i < 50; i++) await plan.run()
      own.free()
      other.close()
      expect(() => plan.run()).toThrow('run: the context is closed')
      expect(() => other.allocate(8)).toThrow('allocate: the context is closed')
    }
    await churn()
    const before = { threads: threads(), rss: process.memoryUsage.rss() }
    for (let i = 0; i < 60; i++) await churn()
    await delay(10)
    expect(threads()).toBe(before.threads)
    // A context's workspace alone is 200 KB a thread: sixty left behind would show.
    expect(process.memoryUsage.rss() - before.rss).toBeLessThan(24 * megabyte)
  })
})
