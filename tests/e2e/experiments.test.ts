/** Experiments, comparison, queue, lineage and what is done to a run under way, in a real browser; pictures go to tests/.output/. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
beforeAll(async () => (workbench = await openWorkbench({})), 120_000)
afterAll(() => workbench?.close())

async function look(name: string): Promise<void> {
  await workbench.page.screenshot({ path: join(outputFolder, `${name}.png`) })
  expect(workbench.complaints, name).toEqual([])
  expect(await violations(workbench.page), name).toEqual([])
}

test('an experiment is chosen, set up, run to its end, and judged beside the paper', async () => {
  const { page, served } = workbench
  await visit(workbench, '/experiments')
  await look('experiments-gallery')
  await page.getByRole('button', { name: 'Set up “AdamW epsilon”' }).click()
  await page.getByLabel('Steps of each run').fill('20')
  await page.getByLabel('Seeds').fill('2')
  await look('experiments-setup')
  await page.getByRole('button', { name: 'Start experiment' }).click()
  await page.waitForURL(/experiments\/.+/)
  await expect.poll(async () => (await served.core.client.experiments.list())[0]!.done, { timeout: 60_000 }).toBe(4)
  await expect.poll(() => page.getByText('4 of 4 runs done').count(), { timeout: 10_000 }).toBe(1)
  // The larger epsilon against the smaller, seed by seed.
  await expect.poll(() => page.getByRole('row', { name: /1e-5/ }).last().textContent(), { timeout: 10_000 }).toMatch(/\+0\.\d{3}\s*±/)
  for (const theme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: theme })
    await page.waitForTimeout(400)
    await look(`experiment-done-${theme}`)
  }
  await page.setViewportSize({ width: 900, height: 1700 })
  await page.waitForTimeout(400)
  await look('experiment-done-900')
  await page.setViewportSize({ width: 1280, height: 800 })
}, 90_000)

test('runs are searched, compared, and traced to where they come from', async () => {
  const { page } = workbench
  await visit(workbench, '/runs')
  await page.getByLabel('Search runs').fill('adamEps')
  for (const box of await page.getByRole('checkbox', { name: /^Select/ }).all()) await box.click()
  await look('runs-search')
  await page.getByRole('link', { name: 'Compare (4)' }).click()
  await expect.poll(() => page.getByText('optimizer.eps').count()).toBe(1)
  await look('runs-compare')
  await visit(workbench, `/lineage/${workbench.run.id}`)
  await look('lineage')
})

test('a fork is proposed from a checkpoint, with its estimate', async () => {
  const { page, served } = workbench
  const [checkpoint] = await served.core.client.checkpoints.list({ runId: workbench.run.id })
  await visit(workbench, `/runs/new?checkpoint=${checkpoint!.id}&stage=fork`)
  await expect.poll(() => page.getByText('Disk for checkpoints').count(), { timeout: 10_000 }).toBe(1)
  // The estimate follows the recipe after a moment.
  await page.waitForTimeout(800)
  await look('new-run-fork')
})

test('a size sets the whole recipe; every knob of it can be edited, and a mistake is named', async () => {
  const { page } = workbench
  await visit(workbench, '/runs/new')
  await page.getByText('OLMoE-1B-7B', { exact: true }).click()
  await expect.poll(() => page.getByText('6,919,161,856').count()).toBe(1)
  await page.getByText('nano', { exact: true }).click()
  await page.getByLabel('Name').first().fill('by the dial')
  await page.waitForTimeout(800)
  await look('new-run-size')
  await page.getByText('Full recipe').click()
  await page.getByRole('button', { name: 'Edit every knob' }).click()
  const editor = page.getByRole('textbox', { name: 'Edit every knob' })
  const recipe = JSON.parse(await editor.inputValue()) as { name: string; model: Record<string, unknown>; optimizer: Record<string, unknown> }
  expect([recipe.name, recipe.model.hidden_size]).toEqual(['by the dial', 64])
  await editor.fill(JSON.stringify({ ...recipe, model: { ...recipe.model, num_shared_experts: -1 } }))
  await page.getByRole('button', { name: 'Use this recipe' }).click()
  await expect.poll(() => page.getByRole('alert').textContent()).toContain('model.num_shared_experts')
  await editor.fill(JSON.stringify({ ...recipe, model: { ...recipe.model, num_shared_experts: 1 }, optimizer: { ...recipe.optimizer, peakLearningRate: 0.003 } }))
  await page.getByRole('button', { name: 'Use this recipe' }).click()
  await expect.poll(() => page.getByRole('region', { name: /recipe/i }).textContent()).toContain('"num_shared_experts": 1')
  expect(await page.getByLabel('Peak learning rate').inputValue()).toBe('0.003')
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('button', { name: 'Open a recipe' }).click()])
  await chooser.setFiles({ name: 'recipe.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify({ ...recipe, name: 'from a file' })) })
  await expect.poll(() => page.getByLabel('Name').first().inputValue()).toBe('from a file')
})
