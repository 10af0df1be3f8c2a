/** What a user does: chat with a checkpoint and look at its experts, by keyboard; stop; delete with a confirmation; sign in. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openWorkbench, outputFolder, visit, type Workbench } from './signed-in.ts'

let workbench: Workbench
beforeAll(async () => {
  workbench = await openWorkbench()
  await workbench.served.core.client.system.updateSettings({ theme: 'light', language: 'en' })
  await workbench.page.reload()
})
afterAll(() => workbench?.close())

test('chat: the reply streams, every token has its probability and experts, and it is kept', async () => {
  const { page, run, served, complaints } = workbench
  const [checkpoint] = await served.core.client.checkpoints.list({ runId: run.id })
  await visit(workbench, `/chat?checkpoint=${checkpoint!.id}`)
  await page.locator('textarea').fill('The cat sees')
  await page.locator('textarea').press('Control+Enter')
  const tokens = page.locator('article.model [data-token], article.model .token')
  await tokens.nth(20).waitFor({ timeout: 20_000 })
  await page.locator('form button[type=submit]').waitFor({ timeout: 20_000 })
  const [chat] = await served.core.client.chats.list()
  const { messages } = await served.core.client.chats.get({ id: chat!.id })
  const reply = messages.at(-1)!
  expect(messages.map(({ role }) => role)).toEqual(['user', 'model'])
  expect(reply.tokens.length).toBeGreaterThan(20)
  expect(reply.text).toBe(reply.tokens.map(({ text }) => text).join(''))
  for (const token of reply.tokens) {
    expect(token.probability).toBeGreaterThan(0)
    expect(token.layers).toHaveLength(run.config.model.num_hidden_layers)
    for (const { experts, weights } of token.layers) {
      expect(new Set(experts).size).toBe(run.config.model.num_experts_per_tok)
      expect([...weights].sort((a, b) => b - a)).toEqual(weights)
    }
  }
  await tokens.nth(5).hover()
  await page.waitForTimeout(600)
  for (const theme of ['light', 'dark'] as const) {
    await served.core.client.system.updateSettings({ theme })
    if (theme === 'dark') {
      await page.reload()
      await page.locator('article.model').waitFor()
      await tokens.nth(5).hover()
      await page.waitForTimeout(600)
    }
    await page.screenshot({ path: join(outputFolder, `chat-tokens-${theme}.png`) })
  }
  expect(complaints).toEqual([])
})

test('keyboard: skip link first, g r to the runs, ? for help, Escape closes it', async () => {
  const { page } = workbench
  await visit(workbench, '/')
  await page.reload()
  await page.locator('main h1').first().waitFor()
  await page.keyboard.press('Tab')
  expect(await page.evaluate(() => document.activeElement?.textContent?.trim() ?? '')).toMatch(/skip/i)
  await page.locator('main h1').first().click()
  await page.keyboard.press('g')
  await page.keyboard.press('r')
  await page.waitForURL(/#\/runs$/)
  await page.keyboard.press('?')
  await page.getByRole('dialog').waitFor()
  await page.screenshot({ path: join(outputFolder, 'help.png') })
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'hidden' })
})

test('the link works once: a second use is refused with a page that says so', async () => {
  const { browser, served } = workbench
  const page = await (await browser.newContext()).newPage()
  const response = await page.goto(served.url)
  expect(response!.status()).toBeGreaterThanOrEqual(400)
  expect(await page.locator('input').count()).toBeGreaterThan(0)
  await page.screenshot({ path: join(outputFolder, 'sign-in.png') })
  await page.close()
})

test('quick start: one button leads through its phases to a model to chat with, and a reload changes nothing', async () => {
  const fresh = await openWorkbench({ empty: true })
  const { page, served, complaints } = fresh
  await served.core.client.system.updateSettings({ theme: 'dark', language: 'en' })
  await page.reload()
  await page.getByRole('button', { name: /train a small moe/i }).click()
  await page.getByRole('progressbar').first().waitFor()
  await page.reload()
  await page.screenshot({ path: join(outputFolder, 'quickstart-running-dark.png') })
  await page.getByRole('link', { name: /chat/i }).or(page.getByRole('button', { name: /chat/i })).nth(1).waitFor({ timeout: 60_000 })
  const deadline = Date.now() + 60_000
  while ((await served.core.client.quickstart.state()).status === 'running' && Date.now() < deadline) await page.waitForTimeout(200)
  const state = await served.core.client.quickstart.state()
  expect(state).toMatchObject({ status: 'done', error: null, stages: [{ stage: 'base' }, { stage: 'sft' }, { stage: 'dpo' }] })
  await page.waitForTimeout(800)
  await page.screenshot({ path: join(outputFolder, 'quickstart-done-dark.png') })
  const text = await page.locator('main').innerText()
  expect(text).toMatch(/chat/i)
  expect(text).toMatch(/experts/i)
  await page.getByRole('link', { name: /side by side/i }).click()
  await page.locator('.columns.two .answer').nth(1).waitFor()
  expect(page.url()).toContain(`checkpoint=${state.stages[0]!.checkpointId}&beside=${state.stages[2]!.checkpointId}`)
  expect(complaints).toEqual([])
  await fresh.close()
})
