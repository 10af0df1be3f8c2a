/** The tray says what runs, as a real core tells it, and nothing while nothing does. */
import { expect, test } from 'vitest'
import { describeRunning, followRunning, type Running } from '#electron/running.ts'
import { wordsFor } from '#electron/words.ts'
import { createLibrary, until } from '../features/library.ts'
import { recipe } from '../features/recipe.ts'

const words = wordsFor('en')

test('runs under way are named with their share, those that wait are counted, and a core that ends none is told', async () => {
  const library = createLibrary()
  library.script({ stepMs: 5 })
  const core = await library.start()
  const told: Running[] = []
  const stop = new AbortController()
  const following = followRunning(core.client, (running) => told.push(running), stop.signal)
  await expect.poll(() => told).toEqual([{ runs: [], queued: 0 }])
  const first = await core.client.runs.create({ config: recipe({ name: 'First', steps: 100 }) })
  const second = await core.client.runs.create({ config: recipe({ name: 'Second', steps: 10 }) })
  await until(core, second.id, 'done')
  await expect.poll(() => told.at(-1)).toEqual({ runs: [], queued: 0 })
  stop.abort()
  await following.catch(() => undefined)

  const lines = told.map((running) => describeRunning(running, words))
  expect(lines[0]).toEqual(['No run is in progress'])
  expect(lines).toContainEqual(['First: 0 %', '1 in the queue'])
  expect(told.some(({ runs }) => runs[0]?.name === 'First' && runs[0].percent >= 10)).toBe(true)
  expect(lines.some(([line]) => line!.startsWith('Second:'))).toBe(true)
  // A line is told when it changed, not at every step.
  expect(told.every((running, i) => i === 0 || JSON.stringify(running) !== JSON.stringify(told[i - 1]))).toBe(true)
  expect((await core.client.runs.get({ id: first.id })).status).toBe('done')
})

test('long names are cut, what a name looks like is left alone, and a crowd is not listed', () => {
  const many = { runs: Array.from({ length: 9 }, (_, i) => ({ name: i === 0 ? 'x'.repeat(90) : '$& {percent}', percent: i })), queued: 0 }
  const lines = describeRunning(many, words)
  expect(lines).toHaveLength(5)
  expect(lines[0]).toBe(`${'x'.repeat(39)}…: 0 %`)
  expect(lines[1]).toBe('$& {percent}: 1 %')
})
