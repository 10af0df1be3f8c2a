/** Atomic writes: the new content whole, or the old one, and nothing beside it. */
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { sha256File, writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-atomic-'))

test('a file is replaced as a whole, with the hash of what it now holds', async () => {
  const path = join(folder, 'file')
  writeFileSync(path, 'old')
  const written = await writeFileAtomic(path, ['né', new Uint8Array([1, 2, 3])])
  const content = Buffer.concat([Buffer.from('né'), Buffer.from([1, 2, 3])])
  expect(readFileSync(path).equals(content)).toBe(true)
  expect(written).toEqual({ sizeBytes: 6, sha256: createHash('sha256').update(content).digest('hex') })
  expect(await sha256File(path)).toBe(written.sha256)
})

test('a failure in the middle keeps the old file and leaves nothing else', async () => {
  const path = join(folder, 'kept')
  writeFileSync(path, 'old')
  const breaking = function* (): Generator<string> {
    yield 'new'
    throw new Error('source broke')
  }
  await expect(writeFileAtomic(path, breaking())).rejects.toThrow('source broke')
  expect(readFileSync(path, 'utf8')).toBe('old')
  expect(readdirSync(folder).filter((name) => name.startsWith('.tmp-'))).toEqual([])
})

test('a folder appears complete or not at all', async () => {
  const path = join(folder, 'made')
  await writeFolderAtomic(path, async (temporary) => {
    writeFileSync(join(temporary, 'a'), '1')
    expect(existsSync(path)).toBe(false)
  })
  expect(readdirSync(path)).toEqual(['a'])
  const failed = join(folder, 'failed')
  await expect(writeFolderAtomic(failed, (temporary) => {
    writeFileSync(join(temporary, 'a'), '1')
    return Promise.reject(new Error('half way'))
  })).rejects.toThrow('half way')
  expect(existsSync(failed)).toBe(false)
  expect(readdirSync(folder).filter((name) => name.startsWith('.tmp-'))).toEqual([])
})
