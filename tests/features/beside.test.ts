/** `moe runs` looks at a library that an open workbench is writing to. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runs } from '#core/cli/runs.ts'
import { migrations } from '#core/store/migrations/list.ts'
import { openReadOnly } from '#core/store/open.ts'
import { createLibrary, until, untilRun } from './library.ts'
import { recipe } from './recipe.ts'

test('runs are listed, shown and read while they train', async () => {
  const library = createLibrary()
  library.script({ stepMs: 100 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 200 }) })
  await untilRun(core, id, ({ step }) => step >= 8)
  const context = { json: true, library: library.path, progress: () => undefined, note: () => undefined }
  const ask = async (...positionals: string[]): Promise<unknown> => runs.run({ values: { key: positionals[0] === 'metrics' ? 'loss' : undefined }, positionals }, context)
  expect(await ask()).toMatchObject([{ id, status: 'running' }])
  expect(await ask('show', id)).toMatchObject({ id, checkpoints: [{ step: 5 }] })
  expect(await ask('metrics', id)).toContainEqual(expect.objectContaining({ key: 'loss', step: 8 }))
  await expect(ask('show', 'none')).rejects.toMatchObject({ code: 'runs.notFound' })
  const store = openReadOnly(join(library.path, 'library.sqlite'))!
  expect(store.pragma('user_version', { simple: true })).toBe(migrations.length)
  expect(() => store.exec('DELETE FROM runs')).toThrow(/readonly/)
  store.close()
  await core.client.runs.stop({ id, save: false })
  await until(core, id, 'stopped')
})
