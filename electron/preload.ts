/**
 * The only code that stands between the page and the shell: it hands the page the MessagePort to the core that the shell
 * sends, and the paths of files that a user drops or chooses there, so that they are read in place. No channel name and no
 * Electron object reaches the page.
 */
import { contextBridge, ipcRenderer, webUtils } from 'electron'

/** The little of the page's window that is used here; the rest of the shell is Node and must not see the DOM. */
declare const window: { postMessage(message: unknown, targetOrigin: string, ports: unknown[]): void }
declare const location: { readonly origin: string }

ipcRenderer.on('core-port', (event) => {
  window.postMessage('moe-port', location.origin, event.ports)
})

// Only a file that the page already holds has a path to ask for.
contextBridge.exposeInMainWorld('moeShell', { pathOf: (file: Parameters<typeof webUtils.getPathForFile>[0]) => webUtils.getPathForFile(file) })
