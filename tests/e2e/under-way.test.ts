/**
 * A run from its form to its end in a real browser: the schedule drawn, prompts given; its learning rate and end changed while it trains;
 * a spike told, rolled back and skipped; others queued behind it, moved and taken out. Pictures go to tests/.output/.
 */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Run } from '#core/shared/runs.ts'
import { tinyConfig } from '../runs/tiny-library.ts'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
let id: string
/** A run to copy in the form, with few checkpoints: a fast model's are pruned before a dialog is read. */
let pattern: string
beforeAll(async () => {
  workbench = await openWorkbench({ empty: true })
  const { client } = workbench.served.core
  pattern = (await client.runs.create({ config: tinyConfig({ name: 'Pattern', steps: 300, checkpointEverySteps: 1500 }) })).id
  await vi.waitFor(async () => expect((await client.runs.get({ id: pattern })).status).toBe('done'), { timeout: 60_000 })
}, 120_000)
afterAll(() => workbench?.close())

/** Longer than these tests take. */
const manySteps = 60_000
const current = (): Promise<Run> => workbench.served.core.client.runs.get({ id })

async function look(name: string): Promise<void> {
  const { page, complaints } = workbench
  await page.screenshot({ path: join(outputFolder, `${name}.png`), fullPage: true })
  expect(complaints, name).toEqual([])
  expect(await violations(page), name).toEqual([])
}

async function chooseAction(name: string): Promise<void> {
  const { page } = workbench
  await page.getByRole('button', { name: /^More actions/ }).first().click()
  await page.getByRole('menuitem', { name }).click()
  await page.getByRole('dialog').waitFor()
}

const lastOf = async (key: string): Promise<number> => (await workbench.served.core.client.runs.metrics({ id, keys: [key], maxPoints: 1_000_000 }))[0]!.values.at(-1)!

test('the form draws the schedule as it is set, and takes prompts', async () => {
  const { page } = workbench
  await visit(workbench, `/runs/new?from=${pattern}`)
  const picture = page.locator('figure', { has: page.getByRole('heading', { name: 'Learning rate', exact: true }) }).locator('.plot')
  await picture.scrollIntoViewIfNeeded()
  await picture.locator('canvas').waitFor()
  await page.waitForTimeout(500)
  const drawn = async (): Promise<string> => (await picture.screenshot()).toString('base64')
  const shapes = new Set([await drawn()])
  for (const schedule of ['Linear', 'Constant', 'Warm-up, stable, decay']) {
    await page.getByLabel('Schedule').click()
    await page.getByRole('option', { name: schedule }).click()
    await page.getByRole('option', { name: schedule }).waitFor({ state: 'hidden' })
    await page.mouse.move(5, 5)
    await page.waitForTimeout(500)
    shapes.add(await drawn())
  }
  expect(shapes.size).toBe(4)
  await page.getByLabel('Steps', { exact: true }).fill(String(manySteps))
  expect(await page.getByLabel('Decay steps').inputValue()).toBe('60')
  await page.getByLabel('Prompts for samples').fill('The cat\n1 + 1 =')
  await page.getByLabel('Stop when a loss or gradient is not finite').click()
  await page.waitForTimeout(800)
  for (const theme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: theme })
    await page.waitForTimeout(300)
    await look(`new-run-schedule-${theme}`)
  }
  await page.getByRole('button', { name: 'Start training' }).click()
  await page.waitForURL(/#\/runs\/(?!new)[^/]+/)
  id = /runs\/([^/?]+)/.exec(page.url())![1]!
  expect((await current()).config).toMatchObject({ optimizer: { schedule: 'warmup-stable-decay', decaySteps: 60 }, control: { prompts: ['The cat', '1 + 1 ='], pauseOnNotFinite: true } })
  await expect.poll(async () => (await current()).step, { timeout: 20_000 }).toBeGreaterThan(100)
})

test('its learning rate and its end are changed while it trains', async () => {
  const { page } = workbench
  const before = await lastOf('learningRate')
  await chooseAction('Change under way')
  await page.getByLabel('Learning rate times').fill('0.5')
  await look('run-change')
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await expect.poll(() => lastOf('learningRate'), { timeout: 10_000 }).toBeCloseTo(before / 2, 6)
  await chooseAction('Change under way')
  await page.getByLabel('Stop at step').fill(String(manySteps - 1000))
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
  await expect.poll(async () => (await current()).config.steps, { timeout: 10_000 }).toBe(manySteps - 1000)
  await page.getByRole('tab', { name: 'Changes' }).click()
  await expect.poll(() => page.getByText('Learning rate times 0.5').count()).toBe(1)
  await expect.poll(() => page.getByText(`Stop at step ${(manySteps - 1000).toLocaleString('en')}`).count()).toBe(1)
  await look('run-history')
})

test('a spike is told; the run goes back from it and leaves out the data of that step', async () => {
  const { page, served } = workbench
  await page.getByRole('tab', { name: 'Overview' }).click()
  // A hundred times the learning rate makes a spike of any model.
  await served.core.client.runs.change({ id, change: { kind: 'learningRate', factor: 100 } })
  const alerts = page.getByRole('region', { name: 'Alerts' })
  await alerts.waitFor({ timeout: 20_000 })
  await expect.poll(() => alerts.getByText(/spike/i).count(), { timeout: 20_000 }).toBeGreaterThan(0)
  await served.core.client.runs.change({ id, change: { kind: 'learningRate', factor: 1 } })
  await look('run-alert')
  await alerts.getByRole('button', { name: 'Roll back and skip' }).last().click()
  await page.getByRole('dialog').waitFor()
  const bad = Number(await page.getByLabel('From step').inputValue())
  expect((await served.core.client.runs.alerts({ id })).map(({ step }) => step)).toContain(bad)
  await look('run-roll-back')
  await page.getByRole('button', { name: 'Roll back and go on' }).click()
  await page.getByRole('dialog').waitFor({ state: 'hidden', timeout: 20_000 })
  const { config, status } = await current()
  expect(status).toBe('running')
  expect(config.control.skips).toMatchObject([{ instances: config.sequencesPerStep }])
  expect((await served.core.client.runs.interventions({ id })).at(-1)!.what).toMatchObject({ kind: 'rollBack', skippedStep: bad, skippedSteps: 1 })
  expect((await served.core.client.runs.alerts({ id })).every(({ step }) => step < bad || step > bad)).toBe(true)
})

test('runs wait behind it, are moved and taken out', async () => {
  const { page, served } = workbench
  const { client } = served.core
  for (const name of ['Second', 'Third']) await client.runs.create({ config: tinyConfig({ name, steps: 20 }) })
  await visit(workbench, '/runs')
  const queue = page.locator('section', { has: page.getByRole('heading', { name: 'Queue' }) })
  expect(await queue.getByRole('link').allTextContents()).toEqual(['Second', 'Third'])
  await queue.getByRole('button', { name: 'Move Third up' }).click()
  await expect.poll(() => queue.getByRole('link').allTextContents()).toEqual(['Third', 'Second'])
  await look('runs-queue')
  await queue.getByRole('button', { name: 'Take Second out of the queue' }).click()
  await expect.poll(() => queue.getByRole('link').allTextContents()).toEqual(['Third'])
  await client.runs.stop({ id, save: true })
  const third = (await client.runs.list()).find(({ name }) => name === 'Third')!
  await expect.poll(async () => (await client.runs.get({ id: third.id })).status, { timeout: 30_000 }).toBe('done')
  expect((await client.runs.list()).find(({ name }) => name === 'Second')!.step).toBe(0)
  await expect.poll(() => queue.count()).toBe(0)
})
