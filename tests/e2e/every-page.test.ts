/**
 * Every page with real data, in dark and light, English and Chinese, large and small: nothing leaves the machine, nothing is logged as
 * an error, axe finds no WCAG A/AA violation, nothing scrolls sideways. A picture of each goes to tests/.output/ for people to look at.
 */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
let empty: Workbench

beforeAll(async () => {
  workbench = await openWorkbench({ card: true })
  empty = await openWorkbench({ empty: true })
})
afterAll(async () => {
  await workbench?.close()
  await empty?.close()
})

async function check(of: Workbench, name: string): Promise<void> {
  const { page, complaints } = of
  await page.screenshot({ path: join(outputFolder, `${name}.png`) })
  expect(complaints, name).toEqual([])
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  expect(overflow, `${name} scrolls sideways`).toBeLessThanOrEqual(0)
}

const places = (run: string): [string, string][] => [
  ['home', '/'],
  ['data', '/data'],
  ['runs', '/runs'],
  ['new-run', '/runs/new'],
  ['run-overview', `/runs/${run}/overview`],
  ['run-experts', `/runs/${run}/experts`],
  ['run-samples', `/runs/${run}/samples`],
  ['run-history', `/runs/${run}/history`],
  ['run-checkpoints', `/runs/${run}/checkpoints`],
  ['run-log', `/runs/${run}/log`],
  ['run-configuration', `/runs/${run}/configuration`],
  ['compare', `/runs/compare?ids=${run}`],
  ['lineage', `/lineage/${run}`],
  ['experiments', '/experiments'],
  ['chat', '/chat'],
  ['analyses', '/analyses'],
  ['evaluations', '/evaluations'],
  ['devices', '/devices'],
  ['settings', '/settings'],
  ['not-found', '/nowhere'],
]

describe.each(['light', 'dark'] as const)('%s', (theme) => {
  test.each(places('').map(([name]) => name))('%s', async (name) => {
    await workbench.served.core.client.system.updateSettings({ theme, language: 'en' })
    const [, place] = places(workbench.run.id).find(([known]) => known === name)!
    await workbench.page.setViewportSize({ width: 1280, height: 800 })
    await visit(workbench, place)
    await workbench.page.reload()
    await visit(workbench, place)
    await check(workbench, `${name}-${theme}`)
    expect(await violations(workbench.page)).toEqual([])
  })

  test('small window', async () => {
    await workbench.page.setViewportSize({ width: 900, height: 600 })
    for (const [name, place] of places(workbench.run.id)) {
      await visit(workbench, place)
      await check(workbench, `${name}-${theme}-small`)
    }
  })

  test('an empty library says what to do next', async () => {
    await empty.served.core.client.system.updateSettings({ theme, language: 'en' })
    for (const [name, place] of [['empty-home', '/'], ['empty-data', '/data'], ['empty-runs', '/runs'], ['empty-experiments', '/experiments'], ['empty-lineage', '/lineage'], ['empty-chat', '/chat'], ['empty-devices', '/devices']] as const) {
      await empty.page.reload()
      await visit(empty, place)
      await check(empty, `${name}-${theme}`)
      expect(await violations(empty.page)).toEqual([])
      expect(await empty.page.locator('main a, main button').count(), `${name} offers a next step`).toBeGreaterThan(0)
    }
  })
})

test('Chinese: every page speaks it', async () => {
  await workbench.served.core.client.system.updateSettings({ theme: 'light', language: 'zh' })
  await workbench.page.setViewportSize({ width: 1280, height: 800 })
  for (const [name, place] of places(workbench.run.id)) {
    await visit(workbench, place)
    await workbench.page.reload()
    await visit(workbench, place)
    expect(await workbench.page.locator('html').getAttribute('lang')).toMatch(/^zh/)
    expect(await workbench.page.locator('main h1').first().innerText(), name).toMatch(name.startsWith('run-') ? /./ : /[\u4e00-\u9fff]/)
    await check(workbench, `${name}-zh`)
  }
  await workbench.served.core.client.system.updateSettings({ language: 'en' })
})
