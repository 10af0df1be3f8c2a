/**
 * The core's process under Electron: the same core as everywhere, on the host of any Node process, with the app's own
 * paths. Pages come to it by ports that the shell hands over.
 */
import { join } from 'node:path'
import type { MessagePortMain } from 'electron'
import { startCore } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import { answerShell } from './link.ts'
import { followRunning } from './running.ts'

const [libraryPath, resourcesPath, version] = process.argv.slice(2) as [string, string, string]

const core = await startCore(nodeHost({ kind: 'electron', libraryPath, resourcesPath, version, runnerPath: join(import.meta.dirname, 'runner.js') }))

const leaving = new AbortController()
const telling = followRunning(core.client, (running) => process.parentPort.postMessage({ type: 'running', running }), leaving.signal)
// The stream ends with an error when it is aborted; nothing else may end it.
telling.catch((error: unknown) => {
  if (!leaving.signal.aborted) throw error
})

answerShell<MessagePortMain>(process.parentPort, {
  accept(port) {
    core.connect(port)
    port.start()
  },
  async countRunning() {
    const runs = await core.client.runs.list()
    return runs.filter(({ status }) => status === 'running').length
  },
  async stop() {
    leaving.abort()
    await core.close()
    process.exit(0)
  },
})
