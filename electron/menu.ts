/**
 * Menu bar and tray. Entries are Electron's roles wherever there is one, so that each system words and wires them its
 * own way; the shell has no commands of its own besides opening the library folder, the window, and the end.
 */
import { join } from 'node:path'
import { app, Menu, nativeImage, Tray, type MenuItemConstructorOptions } from 'electron'
import { describeRunning, nothing } from './running.ts'
import type { Words } from './words.ts'

export type MenuActions = { showWindow(): void; openLibrary(): void }

/** Sets the menu bar. */
export function setMenu(words: Words, actions: MenuActions): void {
  const isMac = process.platform === 'darwin'
  const entries: MenuItemConstructorOptions[] = [
    ...(isMac ? [{ role: 'appMenu' as const }] : []),
    { label: words.file, submenu: [{ label: words.openLibrary, click: actions.openLibrary }, { type: 'separator' }, isMac ? { role: 'close' } : { role: 'quit', label: words.quit }] },
    { role: 'editMenu', label: words.edit },
    {
      label: words.view,
      submenu: [
        { role: 'reload' },
        ...(app.isPackaged ? [] : [{ role: 'toggleDevTools' as const }]),
        { type: 'separator' },
        { role: 'resetZoom' },
        { role: 'zoomIn' },
        { role: 'zoomOut' },
        { type: 'separator' },
        { role: 'togglefullscreen' },
      ],
    },
    { role: 'windowMenu', label: words.window },
    { role: 'help', label: words.help, submenu: [{ role: 'about', label: words.userGuide }] },
  ]
  Menu.setApplicationMenu(Menu.buildFromTemplate(entries))
}

/** Puts the workbench into the tray, which is how it is found while it works without a window. */
export function openTray(words: Words, resourcesPath: string, actions: MenuActions): Tray {
  const icon = nativeImage.createFromPath(join(resourcesPath, 'icons', 'tray.png'))
  const tray = new Tray(icon)
  tray.on('click', actions.showWindow)
  fillTray(tray, describeRunning(nothing, words), words, actions)
  return tray
}

/** Says in the tray what runs; each line opens the window. */
export function fillTray(tray: Tray, lines: readonly string[], words: Words, actions: MenuActions): void {
  tray.setToolTip([app.name, ...lines].join('\n'))
  const running = lines.map((label): MenuItemConstructorOptions => ({ label, click: actions.showWindow }))
  tray.setContextMenu(Menu.buildFromTemplate([...running, { type: 'separator' }, { label: words.show, click: actions.showWindow }, { type: 'separator' }, { role: 'quit', label: words.quit }]))
}
