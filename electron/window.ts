/**
 * The one window: how it is locked down, what it shows, where it was last time. It loads the built page under its own
 * scheme with the policy's headers; every way out of the page (navigation, windows, permissions, downloads of frames) is
 * refused here, whatever the page asks.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { app, BrowserWindow, protocol, screen, session, shell } from 'electron'
import { commonHeaders, readPageFile } from '#core/serve/files.ts'
import { fitWindow, parseWindowState, type WindowState } from './bounds.ts'
import { contentSecurityPolicy, mayNavigate, mayOpenOutside, pageScheme, pageUrl } from './policy.ts'

const built = join(import.meta.dirname, '..')
const pageFolder = join(built, 'renderer')

/** Declares the page's scheme; must be called before the app is ready. */
export function declareScheme(): void {
  protocol.registerSchemesAsPrivileged([{ scheme: pageScheme, privileges: { standard: true, secure: true, supportFetchAPI: true } }])
}

/** Serves the page's files and closes every other way out, for all pages this app will ever show. */
export function lockDown(): void {
  protocol.handle(pageScheme, async ({ url, method }) => {
    const file = method === 'GET' && mayNavigate(url) ? await readPageFile(pageFolder, new URL(url).pathname) : null
    if (file === null) return new Response(null, { status: 404 })
    const headers = { ...commonHeaders, 'Content-Security-Policy': contentSecurityPolicy, 'Content-Type': file.contentType, 'Cache-Control': file.cacheControl }
    return new Response(new Uint8Array(file.body), { headers })
  })
  session.defaultSession.setPermissionRequestHandler((_page, _permission, answer) => answer(false))
  session.defaultSession.setPermissionCheckHandler(() => false)
  session.defaultSession.setDevicePermissionHandler(() => false)
  session.defaultSession.webRequest.onBeforeRequest((request, answer) => {
    answer({ cancel: !/^(app|blob|data|devtools):/.test(request.url) })
  })
  app.on('web-contents-created', (_event, contents) => {
    contents.on('will-navigate', (event) => { if (!mayNavigate(event.url)) event.preventDefault() })
    contents.on('will-frame-navigate', (event) => { if (!mayNavigate(event.url)) event.preventDefault() })
    contents.on('will-redirect', (event) => { if (!mayNavigate(event.url)) event.preventDefault() })
    contents.on('will-attach-webview', (event) => event.preventDefault())
    contents.setWindowOpenHandler(({ url }) => {
      if (mayOpenOutside(url)) void shell.openExternal(url)
      return { action: 'deny' }
    })
  })
}

/** Opens the window where it was last time. */
export function openWindow(): BrowserWindow {
  const stateFile = join(app.getPath('userData'), 'window.json')
  const state = readState(stateFile)
  const [main, ...others] = [screen.getPrimaryDisplay(), ...screen.getAllDisplays()]
  const window = new BrowserWindow({
    ...fitWindow(state?.bounds, [main.workArea, ...others.map((display) => display.workArea)]),
    title: app.name,
    backgroundColor: '#0b0d12',
    show: false,
    webPreferences: {
      preload: join(built, 'preload', 'preload.cjs'),
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
      webviewTag: false,
      spellcheck: false,
    },
  })
  if (state?.maximized) window.maximize()
  window.once('ready-to-show', () => window.show())
  window.on('close', () => writeState(stateFile, { bounds: window.getNormalBounds(), maximized: window.isMaximized() }))
  void window.loadURL(pageUrl)
  return window
}

function readState(file: string): WindowState | undefined {
  try {
    return parseWindowState(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}

/** Keeps the state; where it cannot be written the next start is a first start, which is no reason to disturb anyone. */
function writeState(file: string, state: WindowState): void {
  try {
    writeFileSync(file, JSON.stringify(state))
  } catch {
    return
  }
}
