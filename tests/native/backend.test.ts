/** createCpuBackend: memory in groups, one shared scratch arena, one run at a time, indices checked while running. */
import { afterAll, expect, test } from 'vitest'
import { persistent } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { packRows } from '#core/backend/packed.ts'
import { record } from '#core/backend/record.ts'
import { encodeRows } from '#core/shared/quantization.ts'

const backend = createCpuBackend({ threads: 2 })

afterAll(() => backend.close())

test('writes whole tensors and parts, of the right type and size only', async () => {
  const [values, ids] = [persistent('values', [2, 3]), persistent('ids', [4], 'i32')]
  backend.allocate([values, ids])
  await backend.write(values, Float64Array.of(1, 2, 3, 4, 5, 6))
  await backend.write(values, Float32Array.of(-4, -5), 3)
  await backend.write(ids, Int32Array.of(7, 8), 2)
  expect(await backend.read(values)).toEqual(Float32Array.of(1, 2, 3, -4, -5, 6))
  expect(await backend.read(ids)).toEqual(Int32Array.of(0, 0, 7, 8))
  await expect(backend.write(values, new Float32Array(3), 4)).rejects.toThrow(new RangeError('write: elements 4 to 7 of "values", which has 6'))
  await expect(backend.write(ids, new Float32Array(4))).rejects.toThrow(new TypeError('write: "ids" is i32, the data is Float32Array'))
  await expect(backend.write(values, new Int32Array(6))).rejects.toThrow(new TypeError('write: "values" is f32, the data is Int32Array'))
  backend.release([values, ids])
})

test('releases what was allocated together, all of it and once', async () => {
  const [a, b] = [persistent('a', [4]), persistent('b', [4])]
  backend.allocate([a, b])
  expect(() => backend.allocate([a])).toThrow('allocate: "a" is allocated already')
  expect(() => backend.release([a])).toThrow('all of which must be released together')
  backend.release([a, b])
  await expect(backend.read(a)).rejects.toThrow('"a" is not allocated')
  expect(() => backend.release([a, b])).toThrow('"a" is not allocated')
})

test('plans share one scratch arena that grows: the smaller plan still runs after a larger one was prepared', async () => {
  const [x, y] = [persistent('x', [2, 2]), persistent('y', [2, 2])]
  const [bigX, bigY] = [persistent('bigX', [600, 600]), persistent('bigY', [600, 600])]
  const tensors = [x, y, bigX, bigY]
  backend.allocate(tensors)
  await backend.write(x, Float32Array.of(1, 2, 3, 4))
  await backend.write(bigX, new Float32Array(360_000).fill(0.5))
  const twice = (name: string, from: typeof x, to: typeof x) =>
    record(name, (b) => {
      const half = b.scratch('half', from.shape)
      b.linearForward({ y: half, x: from, weight: from })
      b.linearForward({ y: to, x: half, weight: from })
    })
  const small = await backend.prepare(twice('small', x, y))
  await small.run()
  expect(await backend.read(y)).toEqual(Float32Array.of(27, 59, 61, 133))
  const big = await backend.prepare(twice('big', bigX, bigY))
  expect([small.scratchBytes, big.scratchBytes]).toEqual([256, Math.ceil(360_000 * 4 / 256) * 256])
  await big.run()
  await backend.write(y, new Float32Array(4))
  await small.run()
  expect(await backend.read(y)).toEqual(Float32Array.of(27, 59, 61, 133))
  expect((await backend.read(bigY))[123]).toBe(0.25 * 600 * 0.5 * 600)

  const run = big.run()
  await expect(small.run()).rejects.toThrow('run of small: a run of this backend is in flight')
  expect((await backend.read(bigY)).length).toBe(360_000)
  await run
  backend.release(tensors)
  await expect(small.run()).rejects.toThrow('a tensor of this plan has been freed')
})

test('a plan over a tensor that is not allocated is refused', async () => {
  const [x, y] = [persistent('x', [2, 2]), persistent('y', [2, 2])]
  await expect(backend.prepare(record('plan', (b) => b.linearForward({ y, x, weight: x })))).rejects.toThrow('"y" is not allocated')
})

test.each([
  { op: 'embedForward', found: 9, message: 'embedForward: ids[1] is 9, expected 0 to 4' },
  { op: 'embedForward', found: -1, message: 'embedForward: ids[1] is -1, expected 0 to 4' },
  { op: 'embedBackward', found: 5, message: 'embedBackward: ids[1] is 5, expected 0 to 4' },
  { op: 'kvAppend', found: 5, message: 'kvAppendForward: positions[1] is 5, expected 0 to 4' },
  { op: 'cached', found: 5, message: 'attentionCachedForward: positions[1] is 5, expected 0 to 4' },
  { op: 'head', found: 5, message: 'headCrossEntropyForward: targets[1] is 5, expected 0 to 4' },
  { op: 'dispatch', found: 5, message: 'moeDispatchForward: experts[1] is 5, expected 0 to 4' },
])('$op with an index of $found rejects, and the next run is clean', async ({ op, found, message }) => {
  const [rows, table, table2] = [persistent('rows', [2, 4]), persistent('table', [5, 4]), persistent('table2', [5, 4])]
  const [loss, lse, ids] = [persistent('loss', [2]), persistent('lse', [2]), persistent('ids', [2], 'i32')]
  const [experts, counts, offsets, slot] = [persistent('experts', [2, 1], 'i32'), persistent('counts', [5], 'i32'), persistent('offsets', [6], 'i32'), [0, 1, 2].map((i) => persistent(`slot${i}`, i === 2 ? [2, 1] : [2], 'i32'))]
  const tensors = [rows, table, table2, loss, lse, ids, experts, counts, offsets, ...slot]
  backend.allocate(tensors)
  const plan = await backend.prepare(
    record(op, (b) => {
      if (op === 'embedForward') b.embedForward({ x: rows, ids, weight: table })
      if (op === 'embedBackward') b.embedBackward({ dWeight: table, ids, dX: rows })
      if (op === 'kvAppend') b.kvAppendForward({ cacheK: table, cacheV: table2, k: rows, v: rows, positions: ids })
      if (op === 'cached') b.attentionCachedForward({ o: b.scratch('o', [2, 4]), q: rows, cacheK: table, cacheV: table2, positions: ids, H: 2, G: 2 })
      if (op === 'head') b.headCrossEntropyForward({ loss, lse, x: rows, weight: table, targets: ids })
      if (op === 'dispatch') b.moeDispatchForward({ counts, offsets, slotToken: slot[0]!, slotIndex: slot[1]!, tokenSlot: slot[2]!, experts })
    }),
  )
  for (const tensor of [ids, experts]) await backend.write(tensor, Int32Array.of(4, found))
  await expect(plan.run()).rejects.toThrow(message)
  for (const tensor of [ids, experts]) await backend.write(tensor, Int32Array.of(4, 0))
  await plan.run()
  backend.release(tensors)
})

test('loads bytes as packed and plain tensors, which are neither written nor read back', async () => {
  const [weight, norm, x, y] = [persistent('weight', [16, 32], 'q8'), persistent('norm', [8]), persistent('x', [1, 32]), persistent('y', [1, 16])]
  const numbers = Float32Array.from({ length: 16 * 32 }, (_, i) => (i % 32 === 0 ? 127 : i % 5))
  const bytes = Buffer.concat([packRows('q8', encodeRows('q8', numbers, 32), 32), Buffer.alloc(32), new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8).buffer)])
  backend.load!(bytes, [{ tensor: weight, byteOffset: 0 }, { tensor: norm, byteOffset: 576 }])
  backend.allocate([x, y])
  await backend.write(x, Float32Array.from({ length: 32 }, (_, i) => (i === 0 ? 127 : 0)))
  await (await backend.prepare(record('plan', (b) => b.linearPackedForward({ y, x, weight })))).run()
  expect(await backend.read(y)).toEqual(new Float32Array(16).fill(127 * 127))
  expect([...(await backend.read(norm))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  await expect(backend.read(weight)).rejects.toThrow('"weight" is packed')
  await expect(backend.write(weight, new Float32Array(512))).rejects.toThrow('"weight" is packed, and only loaded')
  const other = persistent('other', [16, 32], 'q8')
  expect(() => backend.load!(bytes, [{ tensor: weight, byteOffset: 0 }])).toThrow('load: "weight" is allocated already')
  expect(() => backend.load!(bytes, [{ tensor: other, byteOffset: 128 }])).toThrow('load: "other" at byte 128 of 608')
  expect(() => record('plan', (b) => b.linearForward({ y, x, weight }))).toThrow('weight ("weight") is q8[16, 32], expected f32[N J]')
  expect(() => record('plan', (b) => b.linearPackedForward({ y, x, weight: persistent('plain', [16, 32]) }))).toThrow('is f32[16, 32], expected packed[N J]')
  backend.release([weight, norm])
  backend.release([x, y])
})

test('short runs leave the event loop its turns', async () => {
  const [x, y] = [persistent('x', [2, 2]), persistent('y', [2, 2])]
  backend.allocate([x, y])
  const plan = await backend.prepare(record('short', (b) => b.linearForward({ y, x, weight: x })))
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  const end = performance.now() + 200
  while (performance.now() < end) await plan.run()
  clearInterval(timer)
  expect(turns).toBeGreaterThan(2)
  backend.release([x, y])
})

test('a closed backend holds nothing', async () => {
  const other = createCpuBackend({ threads: 2 })
  const x = persistent('x', [4])
  other.allocate([x])
  await other.close()
  await expect(other.read(x)).rejects.toThrow('"x" is not allocated')
  expect(() => other.allocate([x])).toThrow('the context is closed')
})
