/**
 * Devices as a user meets them: measuring one, probing a recipe before it is trained, and a run that its card ended. The last is
 * written into the library as a run that failed, because no test can take a card away; what the buttons do then is real.
 */
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ErrorData } from '#core/shared/errors.ts'
import type { RunDevice } from '#core/shared/runs.ts'
import { tinyConfig } from '../runs/tiny-library.ts'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

const sizes = [{ width: 1280, height: 800 }, { width: 900, height: 600 }]
let workbench: Workbench
beforeAll(async () => {
  workbench = await openWorkbench({ card: true })
  await workbench.served.core.client.system.updateSettings({ theme: 'system', language: 'en' })
  await workbench.page.reload()
})
afterAll(() => workbench?.close())

/** A picture of what is shown in both themes and sizes; in each, axe finds nothing and nothing scrolls sideways. */
async function look(name: string, where: string): Promise<void> {
  const { page, complaints } = workbench
  for (const theme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    for (const size of sizes) {
      await page.setViewportSize(size)
      await page.locator(where).first().scrollIntoViewIfNeeded()
      await page.waitForTimeout(250)
      await page.screenshot({ path: join(outputFolder, `${name}-${theme}-${size.width}.png`) })
      expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), name).toBeLessThanOrEqual(0)
      expect(await violations(page), `${name} ${theme} ${size.width}`).toEqual([])
    }
  }
  expect(complaints).toEqual([])
}

test('measuring shows the numbers in the card', async () => {
  const { page } = workbench
  await visit(workbench, '/devices')
  await page.getByRole('button', { name: /^Measure/ }).first().click()
  const card = page.locator('article').first()
  await card.getByText(/FLOP\/s/).waitFor({ timeout: 30_000 })
  await card.getByRole('progressbar').waitFor({ state: 'detached', timeout: 30_000 })
  await look('devices-measured', 'article')
})

test('a probe tells speed, time and memory, and knows when it is stale', async () => {
  const { page } = workbench
  await page.setViewportSize(sizes[0]!)
  await visit(workbench, '/runs/new')
  await page.getByRole('button', { name: /^Probe this machine/ }).click()
  await page.getByText(/steps take about/).waitFor({ timeout: 60_000 })
  await look('new-run-probed', '#probe-title')
  await page.getByLabel('Layers').fill('5')
  await page.getByText('The recipe has changed since this probe.').waitFor()
})

test('a recipe that does not fit says what to change', async () => {
  const { page } = workbench
  await page.getByLabel('Hidden size').fill('65536')
  await page.getByLabel('Experts', { exact: true }).fill('64')
  await page.getByRole('button', { name: 'Probe again' }).click()
  await page.getByText('There is not enough memory for this model').waitFor({ timeout: 60_000 })
  await look('new-run-too-large', '#probe-title')
})

test.skipIf(process.env.VK_ICD_FILENAMES === undefined)('a run on a card says so while it trains: on its page, in the list and above every page', async () => {
  const { page, served, complaints } = workbench
  const { id } = await served.core.client.runs.create({ config: tinyConfig({ name: 'On a card', device: 'webgpu', steps: 100_000, checkpointEverySteps: 0, evaluateEverySteps: 0 }) })
  await page.setViewportSize(sizes[0]!)
  await visit(workbench, `/runs/${id}/overview`)
  await page.getByText(/^Step [1-9]/).first().waitFor({ timeout: 120_000 })
  expect((await served.core.client.runs.get({ id })).runningOn).toMatchObject({ kind: 'webgpu', isSoftware: true, flopsPerSecond: expect.any(Number) })
  await page.getByRole('button', { name: /^Runs on / }).waitFor()
  await look('run-on-card', 'h1')
  await page.getByRole('button', { name: /show the device and the machine/ }).click()
  await page.getByText(/^WebGPU · Vulkan$/).waitFor()
  await page.screenshot({ path: join(outputFolder, 'top-bar-on-card.png') })
  await page.keyboard.press('Escape')
  await visit(workbench, '/devices')
  await page.getByText('Measuring and probing wait until the training is over', { exact: false }).waitFor()
  await served.core.client.runs.stop({ id, save: false })
  await expect.poll(async () => (await served.core.client.runs.get({ id })).status, { timeout: 60_000 }).toBe('stopped')
  expect(complaints).toEqual([])
})

test('a run that lost its card says what is safe, and goes on on the CPU', async () => {
  const { page, served, run } = workbench
  const path = join((await served.core.client.system.about()).libraryPath, 'library.sqlite')
  const device: RunDevice = { kind: 'webgpu', name: 'Example Card 16 GB', api: 'vulkan', driver: 'driver 1.2.3', precision: 'float32', isSoftware: false, flopsPerSecond: 2.1e13 }
  const error: ErrorData = { code: 'device.lost', message: 'lost', params: { adapter: device.name, reason: 'reset' }, hint: '' }
  const config = { ...run.config, device: 'webgpu', steps: 320 }
  const db = new Database(path)
  db.prepare("UPDATE runs SET status = 'failed', config = ?, error = ?, running_on = ? WHERE id = ?").run(JSON.stringify(config), JSON.stringify(error), JSON.stringify(device), run.id)
  db.close()
  await visit(workbench, '/')
  await page.reload()
  await visit(workbench, `/runs/${run.id}/overview`)
  await page.getByRole('alert').getByText(/was reset or removed/).waitFor()
  await look('run-device-lost', 'h1')
  await visit(workbench, '/runs')
  await look('runs-device-lost', 'h1')
  await visit(workbench, `/runs/${run.id}/overview`)
  await page.getByRole('button', { name: /^Ran on Example Card/ }).click()
  await page.getByText('WebGPU · Vulkan').waitFor()
  await page.screenshot({ path: join(outputFolder, 'run-running-on.png') })
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'Go on on the CPU' }).click()
  await expect.poll(async () => (await served.core.client.runs.get({ id: run.id })).status, { timeout: 60_000 }).toBe('done')
  const done = await served.core.client.runs.get({ id: run.id })
  expect(done).toMatchObject({ step: 320, config: { device: 'cpu' }, runningOn: { kind: 'cpu' }, error: null })
})
