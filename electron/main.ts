/**
 * The desktop app's first process: one instance, one window, one core in a process of its own. It starts and ends them
 * and brokers the page's port; everything else it leaves to the core and the page. A core that dies is said so and can be
 * started again: the library is on disk.
 */
import { on, once } from 'node:events'
import { join } from 'node:path'
import { app, type BrowserWindow, dialog, MessageChannelMain, shell, utilityProcess, type MessagePortMain, type Tray, type UtilityProcess } from 'electron'
import { connectPage, type CoreProcess, type FromCore } from './link.ts'
import { fillTray, openTray, setMenu, type MenuActions } from './menu.ts'
import { describeRunning, nothing } from './running.ts'
import { declareScheme, lockDown, openWindow } from './window.ts'
import { wordsFor, type Words } from './words.ts'

/** A core that does not answer or end within this time is not waited for any longer. */
const answerTimeoutMs = 5_000
const stopTimeoutMs = 60_000

const resourcesPath = app.isPackaged ? process.resourcesPath : join(app.getAppPath(), 'resources')
const libraryPath = process.env['MOE_LIBRARY'] ?? join(app.getPath('userData'), 'library')

let words: Words
let core: UtilityProcess
let window: BrowserWindow | undefined
let tray: Tray | undefined
let isQuitting = false
const actions: MenuActions = { showWindow, openLibrary: () => void shell.openPath(libraryPath) }

function startCore(): void {
  core = utilityProcess.fork(join(import.meta.dirname, 'core.js'), [libraryPath, resourcesPath, app.getVersion()], { serviceName: `${app.name} core`, stdio: 'inherit' })
  core.on('message', (message: FromCore) => {
    if (message.type === 'running' && tray) fillTray(tray, describeRunning(message.running, words), words, actions)
  })
  core.once('exit', (code) => {
    if (!isQuitting) void onCoreLost(code)
  })
}

async function onCoreLost(code: number): Promise<void> {
  if (tray) fillTray(tray, describeRunning(nothing, words), words, actions)
  const { response } = await dialog.showMessageBox({
    type: 'error',
    message: words.coreEndedTitle,
    detail: words.coreEndedDetail.replace('{how}', String(code)),
    buttons: [words.restart, words.quit],
    defaultId: 0,
    cancelId: 1,
  })
  if (response === 1) return app.exit(1)
  startCore()
  window?.reload()
}

function showWindow(): void {
  if (window) {
    if (window.isMinimized()) window.restore()
    window.show()
    return window.focus()
  }
  const page = openWindow()
  window = page
  page.webContents.on('did-finish-load', () => {
    connectPage<MessagePortMain>(core as CoreProcess<MessagePortMain>, page.webContents, new MessageChannelMain())
  })
  page.once('closed', () => (window = undefined))
}

/** How many runs are in progress; none when the core does not say in time. */
async function countRunning(): Promise<number> {
  const stopWaiting = AbortSignal.timeout(answerTimeoutMs)
  core.postMessage({ type: 'activity' })
  try {
    for await (const [answer] of on(core, 'message', { signal: stopWaiting }) as AsyncIterable<[FromCore]>) if (answer.type === 'activity') return answer.running
    return 0
  } catch {
    return 0
  }
}

/** What to do when the user wants to leave while runs are in progress. */
async function askBeforeLeaving(): Promise<'quit' | 'background' | 'cancel'> {
  if ((await countRunning()) === 0) return 'quit'
  const { response } = await dialog.showMessageBox({
    type: 'question',
    message: words.runsActiveTitle,
    detail: words.runsActiveDetail,
    buttons: [words.saveAndQuit, words.keepRunning, words.cancel],
    defaultId: 1,
    cancelId: 2,
  })
  return (['quit', 'background', 'cancel'] as const)[response] ?? 'cancel'
}

async function leave(): Promise<void> {
  const choice = await askBeforeLeaving()
  if (choice === 'cancel') return showWindow()
  if (choice === 'background') return
  isQuitting = true
  const ended = once(core, 'exit', { signal: AbortSignal.timeout(stopTimeoutMs) })
  core.postMessage({ type: 'stop' })
  await ended.catch(() => core.kill())
  app.exit(0)
}

async function start(): Promise<void> {
  declareScheme()
  app.on('second-instance', showWindow)
  app.on('activate', showWindow)
  app.on('before-quit', (event) => {
    if (isQuitting) return
    event.preventDefault()
    void leave()
  })
  app.on('window-all-closed', () => {
    if (process.platform !== 'darwin') void leave()
  })
  await app.whenReady()
  words = wordsFor(app.getLocale())
  lockDown()
  setMenu(words, actions)
  tray = openTray(words, resourcesPath, actions)
  startCore()
  app.once('will-quit', () => tray?.destroy())
  showWindow()
}

if (app.requestSingleInstanceLock()) void start()
else app.exit(0)
