/**
 * A served workbench with a trained tiny model, and a Chromium on it: what the UI tests stand on. Real core, real runner, real page.
 * Every request that would leave the machine, and every error or warning of the page, is kept for the test to look at.
 */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { chromium, type Browser, type Page } from 'playwright-core'
import { nodeHost } from '#core/node-host.ts'
import { serve, type Served } from '#core/serve.ts'
import type { Host } from '#core/shared/host.ts'
import type { Run, RunEvent } from '#core/shared/runs.ts'
import { makeTinyLibrary, tinyConfig } from '../runs/tiny-library.ts'

const root = resolve(import.meta.dirname, '../..')
export const outputFolder = join(root, 'tests/.output')

export type Workbench = { served: Served; browser: Browser; page: Page; complaints: string[]; run: Run; close(): Promise<void> }

const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
]

/** A host whose runners see the software cards that tests have (vitest.config.ts), or no Vulkan at all: pictures are alike on every machine. */
function hostWithCard(card: boolean, prepare: (libraryPath: string) => void): Host {
  const library = makeTinyLibrary()
  prepare(library.libraryPath)
  const host = nodeHost({ kind: 'test', ...library })
  return {
    ...host,
    startRunner() {
      const before = process.env.VK_ICD_FILENAMES
      if (!card || before === undefined) process.env.VK_ICD_FILENAMES = '/nonexistent'
      try {
        return host.startRunner()
      } finally {
        if (before === undefined) delete process.env.VK_ICD_FILENAMES
        else process.env.VK_ICD_FILENAMES = before
      }
    },
  }
}

async function trainTiny(served: Served): Promise<Run> {
  const { id } = await served.core.client.runs.create({ config: tinyConfig({ name: 'Tiny animals', steps: 300 }) })
  const events: AsyncIterable<RunEvent> = await served.core.client.runs.watch({ id })
  for await (const event of events) {
    if (event.type === 'run' && event.run.status === 'done') return event.run
    if (event.type === 'run' && event.run.error) throw new Error(event.run.error.message)
  }
  throw new Error('the run never ended')
}

/** Serves a fresh library, `prepare`d before it is opened, with one finished run (unless `empty`) and no graphics card (unless `card`: a software one), signs a browser in, and records what goes wrong in it. */
export async function openWorkbench({ empty = false, card = false, prepare = (_libraryPath: string): void => undefined } = {}): Promise<Workbench> {
  mkdirSync(outputFolder, { recursive: true })
  const served = await serve({ port: 0, host: '127.0.0.1', coreHost: hostWithCard(card, prepare), rendererPath: join(root, 'out/renderer'), print: () => undefined })
  const run = empty ? (null as unknown as Run) : await trainTiny(served)
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium', args: flags })
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce' })).newPage()
  const complaints: string[] = []
  const own = new URL(served.url).host
  page.on('request', (request) => {
    const url = new URL(request.url())
    if (url.host !== own && !['data:', 'blob:'].includes(url.protocol)) complaints.push(`request to ${request.url()}`)
  })
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`)
  })
  page.on('pageerror', (error) => complaints.push(`exception: ${error.stack ?? error.message}`))
  await page.goto(served.url)
  return {
    served, browser, page, complaints, run,
    async close() {
      await browser.close()
      await served.close()
    },
  }
}

/** Goes to a place inside the page (a hash address) and waits until it has settled. */
export async function visit({ page, served }: Workbench, place: string): Promise<void> {
  await page.goto(`${new URL(served.url).origin}/#${place}`)
  await page.locator('main h1').first().waitFor()
  await page.waitForTimeout(400)
}
