/**
 * What keeps the copies of the kernels apart. An inline function or template of a standard header that is compiled once
 * per instruction set leaves one copy for all of them, maybe the one that an older processor cannot run.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const folder = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'native/cpu')
const compiledPerSet = ['args.h', 'pool.h', 'simd.h', 'bf16.h', 'transpose.h', ...readdirSync(join(folder, 'kernels')).map((name) => `kernels/${name}`)]
const read = (file: string): string => readFileSync(join(folder, file), 'utf8')

/** The processor's intrinsics, whose inline functions are always inlined: no copy of them is left behind. */
const withIntrinsics = 'kernels/packed_dot.cpp: immintrin.h'

test('kernels include no header but C\'s and their own', () => {
  const found = compiledPerSet.flatMap((file) => [...read(file).matchAll(/#include <([^>]+)>/g)].map((match) => `${file}: ${match[1]}`))
  expect(found.length).toBeGreaterThan(0)
  expect(found.filter((include) => !/: (math|stdint|string)\.h$/.test(include))).toEqual([withIntrinsics])
})

test('headers shared by all instruction sets define no function', () => {
  for (const file of ['args.h', 'pool.h', 'kernels/table.h']) expect(read(file).replace(/\/\/.*/g, ''), file).not.toMatch(/\b(inline|template)\b|\)\s*(const\s*)?\{/)
})

test('every kernel file is in the namespace of its instruction set, and is built', () => {
  const sources = compiledPerSet.filter((file) => file.endsWith('.cpp'))
  for (const file of sources) expect(read(file), file).toContain('namespace moe::MOE_KERNELS {')
  const built = [...readFileSync(join(folder, '../binding.gyp'), 'utf8').matchAll(/"cpu\/(kernels\/[^"]+)"/g)].map((match) => match[1])
  expect(built).toEqual(sources.sort())
})
