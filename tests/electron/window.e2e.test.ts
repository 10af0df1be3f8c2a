/**
 * The window itself, wherever Electron's binary and a display are to be had: it shows the page, the page reaches the core,
 * and nothing of Electron or Node is in its reach. Elsewhere it is skipped, and says so.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { _electron, type ElectronApplication, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findElectron, whyNoWindow } from '#resources/scripts/electron.mjs'

const executablePath = findElectron()
const reason = whyNoWindow() ?? (executablePath === undefined ? "Electron's binary is not here" : undefined)
const library = mkdtempSync(join(tmpdir(), 'moe-window-'))

afterAll(() => rmSync(library, { recursive: true, force: true }))

describe.skipIf(reason !== undefined)(`the Electron window${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let app: ElectronApplication
  let page: Page

  beforeAll(async () => {
    const env = { ...process.env, MOE_LIBRARY: library } as Record<string, string>
    app = await _electron.launch({ executablePath: executablePath!, args: [resolve(import.meta.dirname, '../..')], env })
    page = await app.firstWindow()
  })

  afterAll(() => app?.close())

  test('shows the workbench under its own origin', async () => {
    expect(page.url()).toMatch(/^app:\/\/workbench\/index\.html/)
    await page.getByRole('main').waitFor()
  })

  test('gives the page neither Node nor Electron', async () => {
    const reach = await page.evaluate(() => ['require', 'process', 'module', 'electron', 'ipcRenderer'].filter((name) => name in globalThis))
    expect(reach).toEqual([])
  })

  test('goes nowhere else, opens no window, asks for nothing', async () => {
    const outcome = await page.evaluate(async () => {
      const opened = window.open('https://example.org/') === null
      const fetched = await fetch('https://example.org/').then(() => 'fetched', () => 'refused')
      const permission = await navigator.permissions.query({ name: 'geolocation' }).then(({ state }) => state)
      return { opened, fetched, permission }
    })
    expect(outcome).toEqual({ opened: true, fetched: 'refused', permission: 'denied' })
    await page.evaluate(() => { location.href = 'https://example.org/' })
    expect(page.url()).toMatch(/^app:\/\/workbench\//)
  })
})
