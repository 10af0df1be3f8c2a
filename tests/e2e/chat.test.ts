/** The chat as a user meets it: send, edit into a branch and back, search, two checkpoints side by side, hostile Markdown, the system prompt's note. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { violations } from './accessible.ts'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
let ids: string[]
beforeAll(async () => {
  workbench = await openWorkbench()
  const { served, page, run } = workbench
  await served.core.client.system.updateSettings({ theme: 'light', language: 'en' })
  ids = (await served.core.client.checkpoints.list({ runId: run.id })).map(({ id }) => id)
  await page.reload()
})
afterAll(() => workbench?.close())

const idle = () => workbench.page.locator('form.composer button[type=submit]').waitFor({ timeout: 30_000 })
async function say(text: string): Promise<void> {
  const field = workbench.page.locator('form.composer textarea')
  await field.fill(text)
  await field.press('Control+Enter')
  await workbench.page.locator('article.user', { hasText: text }).first().waitFor()
  await idle()
}
async function picture(name: string): Promise<void> {
  const { page, served } = workbench
  for (const [theme, width] of [['light', 1280], ['dark', 1280], ['dark', 900]] as const) {
    await served.core.client.system.updateSettings({ theme })
    await page.setViewportSize({ width, height: width === 900 ? 600 : 800 })
    await page.reload()
    await page.locator('article').first().waitFor()
    await page.waitForTimeout(400)
    await page.screenshot({ path: join(outputFolder, `${name}-${theme}${width === 900 ? '-small' : ''}.png`) })
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBeLessThanOrEqual(0)
    if (width === 1280) expect(await violations(page)).toEqual([])
  }
  await page.setViewportSize({ width: 1280, height: 800 })
}

test('an edited turn and another answer are branches, and arrows lead back', async () => {
  const { page } = workbench
  await visit(workbench, `/chat?checkpoint=${ids[0]}`)
  await say('The cat sees')
  await page.locator('article.user').hover()
  await page.getByRole('button', { name: 'Edit', exact: true }).click()
  await page.locator('article.user textarea').fill('The zebra likes')
  await page.locator('article.user textarea').press('Control+Enter')
  await page.locator('article.user', { hasText: 'The zebra likes' }).waitFor()
  await idle()
  expect(await page.locator('article.user').innerText()).toMatch(/2 \/ 2/)
  await page.locator('article.user').getByRole('button', { name: 'Version before' }).click()
  await page.locator('article.user', { hasText: 'The cat sees' }).waitFor()
  await page.locator('article.model').getByRole('button', { name: 'Try again' }).click()
  await page.locator('article.model', { hasText: '2 / 2' }).waitFor({ timeout: 30_000 })
  await idle()
  await picture('chat-branches')
  expect(workbench.complaints).toEqual([])
})

test('chats are found by what was said, renamed by keyboard, and the search leads to the message', async () => {
  const { page, served } = workbench
  const [chat] = await served.core.client.chats.list()
  await page.locator('h1').first().click({ force: true })
  await page.keyboard.press('/')
  await page.keyboard.type('zebra likes')
  await page.locator('.entry', { hasText: 'The zebra likes' }).waitFor()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('F2')
  await page.locator('.rename input').fill('Zebras')
  await page.keyboard.press('Enter')
  await page.locator('.entry', { hasText: 'Zebras' }).locator('a').click()
  await page.locator('article.user', { hasText: 'The zebra likes' }).waitFor()
  expect((await served.core.client.chats.get({ id: chat!.id })).title).toBe('Zebras')
  await page.getByRole('searchbox').fill('nowhere to be found')
  await page.getByText('No chat has all of these words.').waitFor()
  await page.getByRole('searchbox').fill('')
  await page.locator('.entry').first().waitFor()
})

test('two checkpoints answer the same text, each with its own figures', async () => {
  const { page, served } = workbench
  await visit(workbench, `/chat?checkpoint=${ids[0]}&beside=${ids.at(-1)}`)
  await say('The dog follows')
  await page.locator('.answer').nth(1).locator('article.model').waitFor()
  for (const side of [0, 1]) expect(await page.locator('.answer').nth(side).locator('.figures').innerText()).toMatch(/tokens\/s · first token .* ms · seed \d+/)
  await say('And then')
  const [chat] = await served.core.client.chats.list()
  const { messages, columns } = await served.core.client.chats.get({ id: chat!.id })
  expect(columns.map(({ checkpointId }) => checkpointId)).toEqual([ids[0], ids.at(-1)])
  expect(messages.filter(({ text }) => text === 'The dog follows')).toHaveLength(1)
  expect(messages.filter(({ text }) => text === 'And then')).toHaveLength(2)
  const replies = messages.filter(({ role }) => role === 'model')
  expect(new Set(replies.slice(0, 2).map(({ seed }) => seed)).size).toBe(1)
  await picture('chat-beside')
  await page.getByRole('button', { name: 'Close this side' }).click()
  await page.locator('.answer').nth(1).waitFor({ state: 'hidden' })
  expect(workbench.complaints).toEqual([])
})

const hostile = [
  '# Title', '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"><svg onload="window.hacked = 3">',
  '[bad](javascript:window.hacked=4) [good](https://example.org/page) ![pixel](https://example.org/pixel.png)',
  '- one\n\n  ```html\n  <b onclick="window.hacked = 5">not bold</b>\n  ```', '| a | b |\n| - | -: |\n| 1 | `2` |', '> quoted **bold**', '<style>body { display: none }</style><iframe src="https://example.org"></iframe>',
].join('\n\n')

test('hostile Markdown stays text: no element, request or script of the model’s', async () => {
  const { page, served, complaints } = workbench
  const { id } = await served.core.client.chats.create({ checkpointId: ids[0]! })
  for await (const _ of await served.core.client.chats.send({ chatId: id, text: '<b>me</b> **me**', sampling: { temperature: 0, topP: 1, maxTokens: 3, seed: 1 } }));
  const db = new Database(join((await served.core.client.system.about()).libraryPath, 'library.sqlite'))
  db.prepare("UPDATE messages SET text = ? WHERE chat_id = ? AND role = 'model'").run(hostile, id)
  db.close()
  await visit(workbench, '/chat')
  await page.getByLabel('How replies are shown').click()
  await page.getByRole('option', { name: 'Always formatted' }).click()
  await visit(workbench, `/chat/${id}`)
  const reply = page.locator('article.model .markdown')
  await reply.waitFor()
  expect(await page.evaluate(() => 'hacked' in window)).toBe(false)
  expect(await reply.locator('script, img, svg:not([class]), iframe, style, b, [onclick], [onerror]').count()).toBe(0)
  const links = await reply.locator('a').evaluateAll((all) => all.map((a) => [a.getAttribute('href'), a.getAttribute('target'), a.getAttribute('rel')]))
  expect(links).toEqual([['https://example.org/page', '_blank', 'noopener noreferrer'], ['https://example.org/pixel.png', '_blank', 'noopener noreferrer'], ['https://example.org', '_blank', 'noopener noreferrer']])
  expect(await reply.innerText()).toContain('<script>window.hacked = 1</script>')
  expect(await reply.locator('pre').innerText()).toBe('<b onclick="window.hacked = 5">not bold</b>')
  expect(await page.locator('article.user').innerText()).toContain('<b>me</b> **me**')
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await reply.getByRole('button', { name: 'Copy code' }).click()
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('<b onclick="window.hacked = 5">not bold</b>')
  await picture('chat-markdown')
  expect(complaints).toEqual([])
})

test('the system prompt says that a base model has no place for it, and a chat is kept as a file', async () => {
  const { page, served } = workbench
  await page.getByRole('button', { name: 'System prompt' }).click()
  await page.getByRole('textbox', { name: 'System prompt' }).fill('Be brief.')
  await page.getByText('A base model continues text and has no system turn').waitFor()
  await page.keyboard.press('Escape')
  await expect.poll(async () => (await served.core.client.chats.list())[0]!.systemPrompt).toBe('Be brief.')
  const fileOf = async (item: string): Promise<string> => {
    await page.getByRole('button', { name: 'Export chat' }).click()
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: item }).click()])
    return readFileSync(await download.path(), 'utf8')
  }
  expect(await fileOf('Markdown (this branch)')).toContain('**You**\n\n<b>me</b> **me**')
  expect(JSON.parse(await fileOf('JSON lines (every branch)'))).toEqual({ messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: '<b>me</b> **me**' }, { role: 'assistant', content: hostile }] })
})
