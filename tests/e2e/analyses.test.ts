/** The pages of the experts in a real browser, from the empty page to figures, files, an expert's page, a routed text and an intervention; pictures go to tests/.output/. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Analysis } from '#core/shared/analyses.ts'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
const pasted = 'The cat sees the dog. The horse follows the whale. 12 + 3 = 15\n13 + 4 = 17\n'.repeat(40)
beforeAll(async () => (workbench = await openWorkbench({})), 120_000)
afterAll(() => workbench?.close())

async function look(name: string): Promise<void> {
  const { page } = workbench
  await page.mouse.move(0, 0)
  await page.screenshot({ path: join(outputFolder, `${name}.png`), fullPage: true })
  expect(workbench.complaints, name).toEqual([])
  expect(await violations(page), name).toEqual([])
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), `${name} scrolls sideways`).toBeLessThanOrEqual(0)
}

/** The whole of a page in both themes (as the system has them), and in a small window. */
async function lookAround(name: string): Promise<void> {
  const { page } = workbench
  for (const theme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: theme })
    await page.setViewportSize({ width: 1280, height: 1800 })
    await page.waitForTimeout(300)
    await look(`${name}-${theme}`)
  }
  await page.setViewportSize({ width: 900, height: 1800 })
  await page.waitForTimeout(300)
  await look(`${name}-small`)
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize({ width: 1280, height: 800 })
}

async function saved(button: string): Promise<Buffer> {
  const [file] = await Promise.all([workbench.page.waitForEvent('download'), workbench.page.getByRole('button', { name: button }).first().click()])
  return readFileSync((await file.path())!)
}

const list = (): Promise<Analysis[]> => workbench.served.core.client.analyses.list()
const newestStatus = async (): Promise<string | undefined> => (await list())[0]?.status

async function paste(): Promise<void> {
  const { page } = workbench
  await visit(workbench, '/analyses')
  await page.getByText('Pasted text', { exact: true }).click()
  await page.getByLabel('Text to analyse').fill(pasted)
}

test('a checkpoint is analysed on pasted text; every figure has its numbers and its files', async () => {
  const { page, served } = workbench
  await visit(workbench, '/analyses')
  await look('analyses-empty')
  await paste()
  await page.getByRole('button', { name: /^4 earlier checkpoints|earlier checkpoint/ }).click()
  await page.getByRole('button', { name: 'Analyse routing' }).click()
  await expect.poll(newestStatus, { timeout: 60_000 }).toBe('done')
  await page.getByRole('link', { name: /^Open the analysis of Tiny animals/ }).click()
  await page.waitForURL(/analyses\/.+/)
  const load = page.getByRole('figure', { name: 'Load of every expert' })
  const counters = await served.core.client.analyses.counters({ id: (await list())[0]!.id })
  expect(counters.saturation.length).toBeGreaterThan(1)
  await expect.poll(() => load.locator('svg [data-value]').count(), { timeout: 15_000 }).toBe(counters.layers.length * counters.experts)
  await load.getByText('Table', { exact: true }).click()
  expect(await load.locator('tbody tr').count()).toBeGreaterThan(0)
  await page.getByRole('figure', { name: 'Router saturation, first choice' }).waitFor()
  await lookAround('analysis')
  expect(String(await saved('SVG: Load of every expert'))).toContain('</svg>')
  const csv = String(await saved('CSV: Load of every expert')).trimEnd().split('\r\n')
  expect(csv).toHaveLength(1 + counters.layers.length * counters.experts)
  expect(csv[0]).toBe('layer,expert,load over an even share,95 % from,95 % to,n')
  expect((await saved('PNG: Load of every expert')).subarray(1, 4).toString()).toBe('PNG')
  expect(String(await saved('Save report'))).toContain(counters.model)
}, 120_000)

test('a figure is read with the arrow keys, and leads to the page of an expert', async () => {
  const { page } = workbench
  const load = page.getByRole('figure', { name: 'Load of every expert' })
  await load.getByRole('application').focus()
  await page.keyboard.press('ArrowDown')
  for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowRight')
  await expect.poll(() => load.locator('[aria-live]').textContent()).toMatch(/^layer 1 · expert 3: \d\.\d\d × \(95 %: .+, n = \d+\)$/)
  await page.keyboard.press('Enter')
  await page.waitForURL(/experts\/1\/3$/)
  await page.getByRole('heading', { name: 'Layer 1, expert 3' }).waitFor()
  await page.getByRole('heading', { name: 'Works together with' }).waitFor()
  await page.getByText('Load over the training of its run').waitFor()
  expect(await page.getByRole('table', { name: 'Its tokens' }).locator('tbody tr').count()).toBeGreaterThan(0)
  await lookAround('expert')
  await page.getByRole('button', { name: 'Next expert' }).click()
  await page.getByRole('heading', { name: 'Layer 1, expert 4' }).waitFor()
}, 60_000)

test('a text is routed; an expert is switched off and the loss and the text change', async () => {
  const { page } = workbench
  await visit(workbench, '/analyses/text')
  await page.getByLabel('Text', { exact: true }).fill('The cat sees the dog. The horse follows the whale.')
  await page.getByRole('button', { name: 'Route the text' }).click()
  await page.locator('[data-token="0"]').waitFor({ timeout: 60_000 })
  await page.locator('[data-token="0"]').focus()
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Enter')
  const firings = page.getByRole('region', { name: /^Layer 0, expert \d$/ })
  await firings.waitFor()
  expect(await firings.getByText(/Serves \d+ of \d+ tokens/).count()).toBe(1)
  expect(await firings.getByRole('listitem').count()).toBe(await page.locator('.token.served').count())
  await page.getByText('Entropy', { exact: true }).click()
  await lookAround('routing')
  await firings.getByRole('button', { name: 'Switch off' }).click()
  await page.getByRole('button', { name: 'Route the text' }).click()
  await page.locator('[data-test="after"]').waitFor({ timeout: 60_000 })
  const [before, after] = await Promise.all(['before', 'after'].map((one) => page.locator(`[data-test="${one}"]`).textContent()))
  expect(before).not.toBe(after)
  expect(await page.locator('[data-test="continued-after"]').count()).toBe(1)
  await expect.poll(() => firings.getByText(/Serves 0 of/).count()).toBe(1)
  await lookAround('intervention')
}, 120_000)

test('what each expert is worth: a job that can be stopped, and a table', async () => {
  const { page } = workbench
  await visit(workbench, '/analyses')
  await page.getByText('What each expert is worth', { exact: true }).first().click()
  await page.getByLabel('Part', { exact: true }).click()
  await page.getByRole('option', { name: 'Training' }).click()
  await page.getByRole('checkbox', { name: 'numbers' }).click()
  await page.getByLabel('Tokens per domain').fill('2000000')
  await page.getByLabel('Tokens per domain').press('Tab')
  await page.getByRole('button', { name: 'Switch off every expert' }).click()
  await page.getByRole('button', { name: /^Stop the analysis of Tiny animals/ }).click({ timeout: 15_000 })
  await expect.poll(newestStatus, { timeout: 30_000 }).toBe('stopped')
  expect((await list())[0]!.spec.data).toMatchObject({ split: 'train', domains: ['animals'] })
  await page.getByLabel('Tokens per domain').fill('500')
  await page.getByLabel('Tokens per domain').press('Tab')
  await page.getByRole('button', { name: 'Switch off every expert' }).click()
  await expect.poll(newestStatus, { timeout: 60_000 }).toBe('done')
  await page.getByRole('row', { name: /What each expert is worth/ }).getByRole('link').first().click()
  await page.getByRole('figure', { name: 'Loss without an expert: animals' }).waitFor()
  expect(await page.getByRole('region', { name: 'Loss without an expert' }).locator('tbody tr').count()).toBe(16)
  await lookAround('ablation')
}, 120_000)

test('two checkpoints stand side by side', async () => {
  const { page, served } = workbench
  const [first] = (await list()).filter(({ spec }) => spec.kind === 'routing')
  const checkpoints = await served.core.client.checkpoints.list({ runId: null })
  const earliest = checkpoints.toSorted((a, b) => a.step - b.step)[0]!
  const { id } = await served.core.client.analyses.create({ spec: { ...first!.spec, checkpointId: earliest.id, against: [] } })
  await expect.poll(async () => (await served.core.client.analyses.get({ id })).status, { timeout: 60_000 }).toBe('done')
  await visit(workbench, `/analyses/${first!.id}`)
  await page.getByLabel('Beside', { exact: true }).click()
  await page.getByRole('option', { name: /Tiny animals/ }).click()
  await expect.poll(() => page.getByRole('figure', { name: 'Load of every expert' }).count(), { timeout: 15_000 }).toBe(2)
  await look('analysis-beside')
  await served.core.client.system.updateSettings({ language: 'zh' })
  await page.reload()
  await page.getByRole('figure', { name: '各专家的负载' }).first().waitFor()
  await look('analysis-zh')
  await served.core.client.system.updateSettings({ language: 'en' })
  await page.reload()
}, 60_000)

test('a chat message leads to its routing', async () => {
  const { page, served } = workbench
  const [checkpoint] = await served.core.client.checkpoints.list({ runId: null })
  const chat = await served.core.client.chats.create({ checkpointId: checkpoint!.id })
  for await (const event of await served.core.client.chats.send({ chatId: chat.id, text: 'The cat', sampling: { temperature: 0, topP: 1, maxTokens: 8, seed: 1 } })) void event
  await visit(workbench, `/chat/${chat.id}`)
  await page.getByRole('button', { name: 'See its routing' }).click()
  await page.waitForURL(/analyses\/text/)
  expect(await page.getByLabel('Text', { exact: true }).inputValue()).toMatch(/^The cat.+/)
}, 60_000)
