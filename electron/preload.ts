/**
 * The only code that stands between the page and the shell: it hands the page the MessagePort to the core that the shell
 * sends, and nothing else. No function, no channel name and no Electron object reaches the page.
 */
import { ipcRenderer } from 'electron'

/** The little of the page's window that is used here; the rest of the shell is Node and must not see the DOM. */
declare const window: { postMessage(message: unknown, targetOrigin: string, ports: unknown[]): void }
declare const location: { readonly origin: string }

ipcRenderer.on('core-port', (event) => {
  window.postMessage('moe-port', location.origin, event.ports)
})
