/**
 * Data as a user meets it: a folder dropped into the page becomes a source, a bad row is decided on, filters are tried, shares chosen, and
 * a mix built that a run can be made on. The drop is the browser's own, with real files; core and runners are real. Pictures of each step.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRandom } from '#core/shared/random.ts'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
const folder = mkdtempSync(join(tmpdir(), 'moe-drop-'))

beforeAll(async () => {
  writeTexts()
  workbench = await openWorkbench({ empty: true })
  await workbench.served.core.client.system.updateSettings({ theme: 'system', language: 'en' })
  await workbench.page.reload()
})
afterAll(async () => {
  await workbench?.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Sentences that differ, so that no filter finds them alike. */
function writeTexts(): void {
  const random = createRandom(11, 'e2e')
  const pick = (of: string): string => {
    const words = of.split(' ')
    return words[random.nextBelow(words.length)]!
  }
  const sentence = (): string => `The ${pick('old young quiet tall brave small grey wise')} ${pick('captain farmer painter doctor child teacher sailor baker')} ${pick('sees finds keeps paints buys follows forgets mends')} a ${pick('red blue broken golden paper wooden silver lost')} ${pick('boat clock letter house garden lamp bridge key')} near the ${pick('river market harbour forest school mill church station')}.`
  const text = (count: number): string => Array.from({ length: count }, sentence).join(' ')
  const stories = Array.from({ length: 120 }, () => text(8))
  mkdirSync(join(folder, 'stories'))
  mkdirSync(join(folder, 'scripts', 'deep'), { recursive: true })
  mkdirSync(join(folder, 'scripts', 'node_modules'), { recursive: true })
  writeFileSync(join(folder, 'stories', 'stories.jsonl'), [...stories.map((body, i) => JSON.stringify({ title: `Story ${i}`, body })), JSON.stringify({ title: 'bad', body: 7 }), JSON.stringify({ title: 'again', body: stories[3] }), JSON.stringify({ title: 'empty', body: '' })].join('\n'))
  for (let i = 0; i < 14; i++) writeFileSync(join(folder, 'scripts', 'deep', `tool${i}.py`), Array.from({ length: 30 }, (_, k) => `def ${pick('read write find sort count join split open')}_${pick('row file word line page list name tree')}_${i}_${k}(${pick('path text items key')}):\n    return ${pick('sorted list set tuple len')}(${k * 3 + i})\n`).join('\n'))
  writeFileSync(join(folder, 'scripts', 'node_modules', 'left-out.js'), 'x')
}

/** Drops real files and folders where an element is, as the system would. */
async function drop(page: Page, selector: string, paths: string[]): Promise<void> {
  const box = (await page.locator(selector).first().boundingBox())!
  const session = await page.context().newCDPSession(page)
  const at = { x: box.x + box.width / 2, y: box.y + 20, data: { items: [], files: paths, dragOperationsMask: 1 } }
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const) await session.send('Input.dispatchDragEvent', { type, ...at })
  await session.detach()
}

/** A picture in both themes and both sizes; what axe finds in each theme. */
async function look(name: string): Promise<void> {
  const { page } = workbench
  await page.waitForTimeout(300)
  for (const theme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: theme })
    await page.waitForTimeout(250)
    for (const [size, viewport] of [['', { width: 1280, height: 800 }], ['-small', { width: 900, height: 600 }]] as const) {
      await page.setViewportSize(viewport)
      await page.screenshot({ path: join(outputFolder, `${name}-${theme}${size}.png`), fullPage: false })
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      expect(overflow, `${name} scrolls sideways`).toBeLessThanOrEqual(0)
    }
    await page.setViewportSize({ width: 1280, height: 800 })
    expect(await violations(page), `${name} ${theme}`).toEqual([])
  }
  expect(workbench.complaints, name).toEqual([])
}

test('from dropped folders to a built mix, and a run on it', async () => {
  const { page, served } = workbench
  const { client } = served.core
  await visit(workbench, '/data')
  await look('data-empty')

  await page.getByRole('button', { name: 'New mix' }).click()
  await page.waitForURL(/#\/data\/builds\/.*\/sources$/)
  await page.getByLabel('Name of the mix').fill('my-texts')
  await drop(page, '.zone', [join(folder, 'stories'), join(folder, 'scripts')])
  await page.getByRole('article', { name: 'stories' }).getByText('1 row cannot be used').waitFor({ timeout: 20_000 })
  await page.getByRole('article', { name: 'scripts' }).getByText('14 documents').waitFor({ timeout: 20_000 })
  const [stories, scripts] = ['stories', 'scripts'].map((name) => async () => (await client.sources.list()).find(({ spec }) => spec.name === name)!)
  expect((await stories!()).report).toMatchObject({ documents: 122, mapping: { text: 'body' }, badRows: [{ row: 121, field: 'body', found: 'number 7', expected: 'a text' }] })
  expect((await scripts!()).report).toMatchObject({ files: 14, formats: ['code'] })
  await page.getByRole('article', { name: 'stories' }).getByRole('button', { name: 'Details of stories' }).click()
  await page.getByLabel('Licence').fill('CC0-1.0')
  await page.getByLabel('Licence').press('Enter')
  await look('data-sources')
  // Another field is read at once, and the one before again.
  const readFrom = async (field: string): Promise<void> => {
    await page.getByRole('combobox', { name: 'Field with the text' }).click()
    await page.getByRole('option', { name: new RegExp(`^${field} `) }).click()
    await expect.poll(async () => (await stories!()).state === 'ready' && (await stories!()).report?.mapping?.text, { timeout: 20_000 }).toBe(field)
  }
  await readFrom('title')
  expect((await stories!()).report).toMatchObject({ badRowCount: 0, mapping: { text: 'title' } })
  await readFrom('body')
  await page.getByRole('button', { name: 'Skip this row' }).click()
  await page.getByText('1 row cannot be used').waitFor({ state: 'hidden' })
  expect((await stories!()).spec).toMatchObject({ licence: 'CC0-1.0', skipBadRows: 1 })

  await page.getByRole('button', { name: 'Filters' }).click()
  await page.getByText('120 of 122 documents stay').waitFor({ timeout: 30_000 })
  await page.getByText('Dropped only').click()
  await look('data-filters')
  await page.getByLabel('At least').first().fill('300')
  await page.getByLabel('At least').first().press('Enter')
  await page.getByText('0 of 122 documents stay').waitFor({ timeout: 30_000 })
  await page.getByLabel('At least').first().fill('1')
  await page.getByLabel('At least').first().press('Enter')
  await page.getByText('120 of 122 documents stay').waitFor({ timeout: 30_000 })

  await page.getByRole('button', { name: 'Tokenizer' }).click()
  await page.getByLabel('Vocabulary size').fill('400')
  await page.getByLabel('Vocabulary size').press('Enter')
  await page.getByLabel('Text of each source to train on').fill('0.05')
  await page.getByLabel('Text of each source to train on').press('Enter')
  await look('data-tokenizer')
  await page.getByRole('button', { name: 'Shares' }).click()
  await page.getByText('Chosen', { exact: true }).click()
  await page.getByLabel('Share of scripts').fill('60')
  await page.getByLabel('Share of scripts').press('Enter')
  await look('data-shares')

  // What was set is there after a reload: it is the library's, not the page's.
  await page.waitForTimeout(600)
  await page.reload()
  await page.getByRole('link', { name: 'Build' }).click()
  await page.getByText(/about .* while it is built/).waitFor({ timeout: 30_000 })
  await look('data-build')
  await page.getByRole('button', { name: 'Build mix' }).click()
  // Whoever goes elsewhere sees it still, and finds the way back.
  await visit(workbench, '/devices')
  await page.locator('header').getByRole('link', { name: 'my-texts' }).click({ timeout: 20_000 })
  await page.waitForURL(/#\/data\/builds\/.*\/build$/)
  expect((await client.builds.list())[0]!.draft.sampleBytes).toBe(50_000)
  await page.getByRole('link', { name: 'Show the mix' }).waitFor({ timeout: 60_000 })
  await look('data-built')
  await page.getByRole('link', { name: 'Show the mix' }).click()
  await page.getByRole('heading', { name: 'First batches' }).waitFor()
  await page.getByText(/sequences per pass/).waitFor()
  const [mix] = await client.mixes.list()
  expect(mix).toMatchObject({ name: 'my-texts', vocabularySize: 400, domains: [{ name: 'stories', licence: 'CC0-1.0', documents: 120 }, { name: 'scripts', documents: 14 }] })
  await look('data-mix')

  await page.getByRole('link', { name: 'Train on it' }).click()
  await page.waitForURL(/#\/runs\/new/)
  await page.getByText('my-texts').first().waitFor()
  await page.locator('summary').click()
  const shown = await page.locator('main').innerText()
  expect(shown).toContain(mix!.id)
  expect(shown).toMatch(/"vocab_size": 400/)
  await visit(workbench, '/data')
  await look('data-page')
})

test('folders of the machine are browsed by keyboard, and every page of data speaks Chinese', async () => {
  const { page, served, complaints } = workbench
  await visit(workbench, '/data')
  await page.getByRole('button', { name: 'By path' }).focus()
  await page.keyboard.press('Enter')
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Path').fill(folder)
  await page.keyboard.press('Enter')
  await dialog.getByRole('button', { name: 'stories' }).focus()
  await page.keyboard.press('Enter')
  await dialog.getByRole('button', { name: /stories\.jsonl/ }).focus()
  await page.keyboard.press('Enter')
  await page.screenshot({ path: join(outputFolder, 'data-browse.png') })
  expect(await violations(page)).toEqual([])
  await dialog.getByRole('button', { name: 'Take this file' }).click()
  await page.getByRole('article', { name: 'stories-2' }).waitFor()
  await page.getByRole('button', { name: 'Download' }).click()
  await page.getByLabel('Data set').fill('owner/name')
  expect(await violations(page)).toEqual([])
  await page.screenshot({ path: join(outputFolder, 'data-download.png') })
  await page.keyboard.press('Escape')

  await served.core.client.system.updateSettings({ language: 'zh' })
  await page.emulateMedia({ colorScheme: 'light' })
  const [build] = await served.core.client.builds.list()
  const [mix] = await served.core.client.mixes.list()
  const draft = await served.core.client.builds.create({ draft: { ...build!.draft, name: 'zh' } })
  for (const [name, place] of [['page', '/data'], ['mix', `/data/mixes/${mix!.id}`], ...['sources', 'filters', 'tokenizer', 'shares', 'build'].map((step) => [step, `/data/builds/${draft.id}/${step}`])] as [string, string][]) {
    await visit(workbench, place)
    await page.reload()
    await visit(workbench, place)
    expect(await page.locator('main').innerText(), name).toMatch(/[\u4e00-\u9fff]{4}/)
    await page.screenshot({ path: join(outputFolder, `data-${name}-zh.png`) })
  }
  expect(complaints).toEqual([])
})
