/**
 * Every page in both themes: no request that leaves the machine, nothing on the console, no WCAG A or AA violation that axe finds, and
 * a picture in tests/.output for people to look at.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tinyConfig } from '#tests/runs/tiny-library.ts'
import { seedRuns, seeded } from './seed.ts'
import { accessibilityProblems, picture, startWorkbench, type Workbench } from './workbench.ts'

let workbench: Workbench
let chatId = ''
let trainedId = ''

beforeAll(async () => {
  workbench = await startWorkbench(({ libraryPath }) => seedRuns(libraryPath))
  const { client } = workbench.served.core
  // A real run for what needs real files: checkpoints and a chat.
  const run = await client.runs.create({ config: tinyConfig({ name: 'Tiny, for chat', steps: 150 }) })
  trainedId = run.id
  for await (const event of await client.runs.watch({ id: run.id })) {
    if (event.type === 'run' && !['queued', 'running'].includes(event.run.status)) break
  }
  const [checkpoint] = await client.checkpoints.list({ runId: run.id })
  const chat = await client.chats.create({ checkpointId: checkpoint!.id })
  chatId = chat.id
  const sampling = { temperature: 0.8, topP: 0.95, maxTokens: 120, seed: 7 }
  for await (const _ of await client.chats.send({ chatId, text: 'The cat sees', sampling })) void _
})
afterAll(() => workbench?.close())

const pages = {
  home: () => '/',
  runs: () => '/runs',
  'run-overview': () => `/runs/${seeded.done}`,
  'run-experts': () => `/runs/${seeded.done}/experts`,
  'run-interrupted': () => `/runs/${seeded.interrupted}`,
  'run-failed': () => `/runs/${seeded.failed}`,
  'run-log': () => `/runs/${seeded.done}/log`,
  'run-configuration': () => `/runs/${seeded.done}/configuration`,
  'run-checkpoints': () => `/runs/${trainedId}/checkpoints`,
  'new-run': () => '/runs/new',
  chat: () => `/chat/${chatId}`,
  'chat-start': () => '/chat',
  settings: () => '/settings',
  'not-found': () => '/no/such/page',
}

describe.each(['light', 'dark'] as const)('%s', (theme) => {
  test.each(Object.entries(pages))('%s', async (name, path) => {
    const { page, problems } = await workbench.open(path(), { theme })
    await page.getByRole('heading', { level: 1 }).waitFor({ state: 'attached' })
    await page.waitForTimeout(700)
    await picture(page, `${name}-${theme}`)
    expect(await accessibilityProblems(page)).toEqual([])
    await page.setViewportSize({ width: 900, height: 600 })
    await page.waitForTimeout(200)
    await picture(page, `${name}-${theme}-900`)
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 'the window scrolls sideways').toBeLessThanOrEqual(0)
    expect(problems).toEqual([])
    await page.context().close()
  })
})
