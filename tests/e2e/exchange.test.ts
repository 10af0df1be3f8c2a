/** A model from elsewhere, as a user meets it: imported from a folder, exported to ONNX, and its parity with onnxruntime read on the page. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeSmallModel } from '../formats/small-model.ts'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
const folder = mkdtempSync(join(tmpdir(), 'moe-exchange-'))

beforeAll(async () => {
  await writeSmallModel(join(folder, 'published'))
  workbench = await openWorkbench({ empty: true })
  await workbench.served.core.client.system.updateSettings({ theme: 'light', language: 'en' })
  await workbench.page.reload()
})
afterAll(async () => {
  await workbench?.close()
  rmSync(folder, { recursive: true, force: true })
})

test('import, export, parity', async () => {
  const { page } = workbench
  await visit(workbench, '/runs')
  await page.getByRole('button', { name: 'Import a model' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Path or repository').fill(join(folder, 'published'))
  await dialog.getByLabel('Name in the library').fill('Published')
  await page.screenshot({ path: join(outputFolder, 'exchange-import.png') })
  await dialog.getByRole('button', { name: 'Import', exact: true }).click()
  await page.getByRole('link', { name: 'Open' }).click({ timeout: 60_000 })

  await page.getByRole('button', { name: 'Export', exact: true }).click()
  await dialog.getByText('ONNX').click()
  await dialog.getByLabel('Write to').fill(join(folder, 'onnx'))
  await page.screenshot({ path: join(outputFolder, 'exchange-export.png') })
  await dialog.getByRole('button', { name: 'Export', exact: true }).click()
  const parity = page.getByText(/Compared in onnxruntime over 48 tokens/)
  await parity.waitFor({ timeout: 60_000 })
  expect(Number(/difference ([\d.e+-]+) nats/.exec(await parity.innerText())![1])).toBeLessThan(5e-5)
  expect(readdirSync(join(folder, 'onnx'))).toEqual(expect.arrayContaining(['config.json', 'model.onnx', 'tokenizer.json']))
  expect(await violations(page)).toEqual([])
  await page.screenshot({ path: join(outputFolder, 'exchange-parity.png'), fullPage: true })

  await visit(workbench, '/runs')
  await page.getByRole('button', { name: 'Import a model' }).click()
  await dialog.getByLabel('Path or repository').fill(join(folder, 'nothing'))
  await dialog.getByRole('button', { name: 'Import', exact: true }).click()
  await page.getByText(/cannot be used/).waitFor({ timeout: 60_000 })
  expect(workbench.complaints).toEqual([])
})
