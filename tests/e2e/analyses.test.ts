/** An analysis of routing in a real browser, from the empty page to its figures and files; pictures go to tests/.output/. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
beforeAll(async () => (workbench = await openWorkbench({})), 120_000)
afterAll(() => workbench?.close())

async function look(name: string): Promise<void> {
  await workbench.page.screenshot({ path: join(outputFolder, `${name}.png`), fullPage: true })
  expect(workbench.complaints, name).toEqual([])
  expect(await violations(workbench.page), name).toEqual([])
}

async function saved(button: string): Promise<string> {
  const [file] = await Promise.all([workbench.page.waitForEvent('download'), workbench.page.getByRole('button', { name: button }).first().click()])
  return readFileSync((await file.path())!, 'utf8')
}

test('a checkpoint is analysed on pasted text; every figure has its numbers and its files', async () => {
  const { page, served } = workbench
  await visit(workbench, '/analyses')
  await look('analyses-empty')
  await page.getByText('Pasted text', { exact: true }).click()
  await page.getByLabel('Text to analyse').fill('The cat sat on the mat, and the dog <b>ran</b> after the bird. '.repeat(40))
  await page.getByRole('button', { name: 'Analyse routing' }).click()
  await expect.poll(async () => (await served.core.client.analyses.list())[0]?.status, { timeout: 60_000 }).toBe('done')
  await page.getByRole('link', { name: /^Open the analysis of Tiny animals/ }).click()
  await page.waitForURL(/analyses\/.+/)
  const load = page.getByRole('figure', { name: 'Load of every expert' })
  const counters = await served.core.client.analyses.counters({ id: (await served.core.client.analyses.list())[0]!.id })
  await expect.poll(() => load.locator('svg [data-value]').count(), { timeout: 15_000 }).toBe(counters.layers.length * counters.experts)
  await load.getByText('Table', { exact: true }).click()
  expect(await load.locator('tbody tr').count()).toBeGreaterThan(0)
  await look('analysis')
  expect(await saved('SVG: Load of every expert')).toContain('</svg>')
  expect((await saved('CSV: Load of every expert')).trimEnd().split('\r\n')).toHaveLength(1 + counters.layers.length)
  expect(await saved('Save report')).toContain(counters.model)
  await served.core.client.system.updateSettings({ theme: 'dark', language: 'zh' })
  await page.reload()
  await expect.poll(() => page.getByRole('figure', { name: '各专家的负载' }).locator('svg [data-value]').count(), { timeout: 15_000 }).toBeGreaterThan(0)
  await look('analysis-dark-zh')
}, 120_000)
