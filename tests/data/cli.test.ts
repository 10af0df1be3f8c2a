/** `moe data …` and `moe tokenizer …` as a script uses them: JSON out, exit codes, a mix in the library that can be looked into. */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Preview } from '#core/data/preview.ts'
import type { ComparedTask } from '#core/shared/filters.ts'
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

  const { json: built, code } = await moe<Mix & { outcomes: SourceOutcome[]; comparedTasks: ComparedTask[] }>('data', 'build', 'mix.json', '--threads', '1')
  expect([code, built.outcomes[0]!.kept, readdirSync(join(folder, 'library', 'mixes'))]).toEqual([0, 60, [built.id]])
  expect(readdirSync(join(folder, 'library', 'builds'))).toEqual([])
  expect(built.comparedTasks.map(({ task }) => task)).toEqual(['arithmetic', 'common-facts', 'common-facts-letters', 'opposites', 'short-texts'])
  const { json: again } = await moe<Mix>('data', 'build', 'mix.json')
  expect([again.id, again.hash]).toEqual([built.id, built.hash])

  // Other tasks make another mix, and a copied item is dropped wherever it comes from.
  const item = 'Why does the moon seem to follow a car that drives along a dark road at night'
  mkdirSync(join(folder, 'library', 'tasks'))
  writeFileSync(join(folder, 'library', 'tasks', 'some-file.jsonl'), [{ task: 'mine', title: 'Mine', kind: 'generate' }, { question: item, answers: ['It is far away'] }, { question: 'Too short', answers: ['yes'] }].map((row) => JSON.stringify(row)).join('\n'))
  writeFileSync(join(folder, 'a.jsonl'), [...rows, { body: `${rows[0]!.body} ${item.toUpperCase()}: it is far away.` }].map((row) => JSON.stringify(row)).join('\n'))
  const keptWith = async (...tasks: string[]): Promise<[id: string, contaminated: number, mine: string]> => {
    const { json } = await moe<Mix & { outcomes: SourceOutcome[]; comparedTasks: ComparedTask[] }>('data', 'build', 'mix.json', ...tasks)
    const mine = json.comparedTasks.find(({ task }) => task === 'mine')
    return [json.id, json.outcomes[0]!.dropped.find(({ filter }) => filter === 'contamination')?.documents ?? 0, mine ? `${mine.compared} of ${mine.items}` : '']
  }
  const [all, none, named] = [await keptWith(), await keptWith('--tasks', 'none'), await keptWith('--tasks', 'mine,opposites')]
  expect([all, none, named].map((one) => one.slice(1))).toEqual([[1, '1 of 2'], [0, ''], [1, '1 of 2']])
  expect(new Set([all[0], none[0], named[0]]).size).toBe(3)
  expect((await moe('data', 'build', 'mix.json', '--tasks', 'nothing')).json).toMatchObject({ error: { code: 'tasks.notFound', params: { name: 'nothing' } } })
  writeFileSync(join(folder, 'library', 'tasks', 'bad.jsonl'), '{"task": "bad"}')
  expect((await moe('data', 'build', 'mix.json')).json).toMatchObject({ error: { code: 'tasks.invalid', params: { line: 1 } } })
  rmSync(join(folder, 'library', 'tasks'), { recursive: true })

  const { json: preview } = await moe<Preview>('data', 'preview', built.id, '--sequence-length', '32', '--sequences', '4')
  expect(preview.bySource).toEqual({ a: 4 })
  expect(preview.steps[0]!.instances[0]!.text).toMatch(/word\d+ word/)

  expect((await moe('tokenizer', 'train', 'b.txt', '--vocabulary', '300', '--out', 't.json')).json).toMatchObject({ vocabularySize: 300 })
  // Of so little text a tokenizer learns other merges than of all of it.
  const hashOf = async (...options: string[]): Promise<string> => (await moe<{ hash: string }>('tokenizer', 'train', 'a.jsonl', '--vocabulary', '400', '--out', 's.json', ...options)).json.hash
  const [whole, little, littleAgain] = [await hashOf(), await hashOf('--sample-bytes', '1000'), await hashOf('--sample-bytes', '1000')]
  expect([little === littleAgain, little === whole]).toEqual([true, false])
  expect((await moe('tokenizer', 'train', 'b.txt', '--out', 's.json', '--sample-bytes', '10')).code).toBe(2)
  const { json: encoded } = await moe<{ tokens: number; documents: { ids: number[] }[] }>('tokenizer', 'encode', '--tokenizer', 't.json', '--text', 'WORD7')
  expect(encoded.documents[0]!.ids).toHaveLength(encoded.tokens)
})
