/**
 * The real workbench for UI tests: a served core on a temporary library, and a Chromium page signed in to it. Every request
 * that leaves the page's own origin, every console error and every page error is collected; `problems` must stay empty.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { chromium, type Browser, type Page } from 'playwright-core'
import { nodeHost } from '#core/node-host.ts'
import { serve, type Served } from '#core/serve.ts'
import { makeTinyLibrary, type TinyLibrary } from '#tests/runs/tiny-library.ts'

const root = resolve(import.meta.dirname, '../..')
const rendererPath = join(root, 'out/renderer')
export const outputPath = join(root, 'tests/.output')
const axeSource = readFileSync(join(root, 'node_modules/axe-core/axe.min.js'), 'utf8')
/** Background services of the browser itself are not what is tested here. */
const browserFlags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

export type Workbench = {
  library: TinyLibrary
  served: Served
  browser: Browser
  /** A signed-in page at `path` (a hash address); `problems` is filled while it lives. */
  open(path?: string, options?: OpenOptions): Promise<{ page: Page; problems: string[] }>
  /** Ends the server and starts it again on the same library and port. */
  restart(): Promise<void>
  close(): Promise<void>
}

type OpenOptions = { width?: number; height?: number; theme?: 'light' | 'dark'; locale?: string; reducedMotion?: boolean }

export async function startWorkbench(prepare: (library: TinyLibrary) => void = () => {}): Promise<Workbench> {
  if (!existsSync(join(rendererPath, 'index.html'))) throw new Error('the page is not built: run "npm run build" (npm test does it by itself)')
  const library = makeTinyLibrary()
  prepare(library)
  const start = (port: number): Promise<Served> =>
    serve({ port, host: '127.0.0.1', coreHost: nodeHost({ kind: 'test', ...library, log: () => {} }), rendererPath, print: () => {} })
  let served = await start(0)
  let session = await signIn(served)
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium', args: browserFlags })
  const { port } = new URL(served.url)
  return {
    library,
    get served() {
      return served
    },
    browser,
    open: (path = '/', options = {}) => openPage(browser, session, path, options),
    async restart() {
      await served.close()
      served = await start(Number(port))
      session = await signIn(served)
    },
    async close() {
      await browser.close()
      await served.close()
      rmSync(dirname(library.libraryPath), { recursive: true, force: true })
    },
  }
}

async function openPage(browser: Browser, session: Session, path: string, options: OpenOptions): Promise<{ page: Page; problems: string[] }> {
  const { width = 1280, height = 800, theme = 'light', locale = 'en-GB', reducedMotion = true } = options
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, locale, reducedMotion: reducedMotion ? 'reduce' : 'no-preference', permissions: ['clipboard-read', 'clipboard-write'] })
  await context.addCookies([{ ...session.cookie, url: session.origin }])
  const page = await context.newPage()
  const problems: string[] = []
  page.on('request', (request) => {
    if (!request.url().startsWith(session.origin) && !request.url().startsWith('blob:')) problems.push(`request left the machine: ${request.url()}`)
  })
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== new URL(session.origin).host) problems.push(`socket left the machine: ${socket.url()}`)
  })
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(`console ${message.type()}: ${message.text()}`)
  })
  page.on('pageerror', (error) => problems.push(`page error: ${error.stack ?? error.message}`))
  await page.goto(`${session.origin}/#${path}`)
  await page.getByRole('main').waitFor()
  return { page, problems }
}

type Session = { origin: string; cookie: { name: string; value: string } }

/** A link works once: the session that it buys is shared by all pages of the test. */
async function signIn({ url }: Served): Promise<Session> {
  const response = await fetch(url, { redirect: 'manual' })
  const [name, value] = response.headers.get('set-cookie')!.split(';')[0]!.split('=') as [string, string]
  return { origin: new URL(url).origin, cookie: { name, value } }
}

/** Violations of WCAG A and AA that axe finds, one line each. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  await page.evaluate(axeSource)
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run(root: Document, options: object): Promise<{ violations: { id: string; nodes: { target: string[]; failureSummary: string }[] }[] }> } }
    const result = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })
    return result.violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary.split('\n')[1]?.trim() ?? ''}`))
  })
  return violations
}

/** A picture of the page in tests/.output, for people to look at. */
export async function picture(page: Page, name: string): Promise<void> {
  mkdirSync(outputPath, { recursive: true })
  await page.screenshot({ path: join(outputPath, `${name}.png`) })
}
