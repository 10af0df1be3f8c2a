/** `moe data …` and `moe tokenizer …` as a script uses them: JSON out, exit codes, a mix in the library that can be looked into. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Preview } from '#core/data/preview.ts'
import type { Mix, SourceOutcome } from '#core/shared/mixes.ts'
import type { SourceReport } from '#core/shared/sources.ts'
import { createRandom } from '#core/shared/random.ts'

const cli = resolve(import.meta.dirname, '../../core/cli.ts')

test('from files to a mix to its batches, and a tokenizer with its ids', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-data-cli-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const moe = <T>(...args: string[]): Promise<{ code: number; json: T }> =>
    new Promise((done) => {
      execFile(process.execPath, [cli, ...args, '--json', '--library', join(folder, 'library')], { cwd: folder }, (error, stdout) => done({ code: error ? Number(error.code) : 0, json: JSON.parse(stdout || 'null') as T }))
    })
  const random = createRandom(1, 'cli')
  const words = Array.from({ length: 500 }, (_, i) => `word${i * 7}`)
  const rows = Array.from({ length: 60 }, () => ({ body: Array.from({ length: 60 }, () => words[random.nextBelow(500)]).join(' ') }))
  writeFileSync(join(folder, 'a.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'))
  writeFileSync(join(folder, 'b.txt'), rows.map(({ body }) => body.toUpperCase()).join('\n'))

  const { json: added } = await moe<SourceReport>('data', 'add', 'a.jsonl', '--name', 'a', '--licence', 'CC0-1.0')
  expect(added).toMatchObject({ name: 'a', licence: 'CC0-1.0', documents: 60, mapping: { text: 'body' } })
  expect((await moe('data', 'inspect', 'c.jsonl')).json).toMatchObject({ error: { code: 'source.notFound' } })
  expect((await moe('data', 'build')).code).toBe(2)

  const { json: built, code } = await moe<Mix & { outcomes: SourceOutcome[] }>('data', 'build', 'mix.json', '--threads', '1')
  expect([code, built.outcomes[0]!.kept, readdirSync(join(folder, 'library', 'mixes'))]).toEqual([0, 60, [built.id]])
  expect(readdirSync(join(folder, 'library', 'builds'))).toEqual([])
  const { json: again } = await moe<Mix>('data', 'build', 'mix.json')
  expect([again.id, again.hash]).toEqual([built.id, built.hash])

  const { json: preview } = await moe<Preview>('data', 'preview', built.id, '--sequence-length', '32', '--sequences', '4')
  expect(preview.bySource).toEqual({ a: 4 })
  expect(preview.steps[0]!.instances[0]!.text).toMatch(/word\d+ word/)

  expect((await moe('tokenizer', 'train', 'b.txt', '--vocabulary', '300', '--out', 't.json')).json).toMatchObject({ vocabularySize: 300 })
  const { json: encoded } = await moe<{ tokens: number; documents: { ids: number[] }[] }>('tokenizer', 'encode', '--tokenizer', 't.json', '--text', 'WORD7')
  expect(encoded.documents[0]!.ids).toHaveLength(encoded.tokens)
})
