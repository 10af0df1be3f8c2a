/**
 * The shell brokers one port between page and core, and asks the core a few things. Electron's own ends are played by
 * Node's message channels, which carry ports the same way.
 */
import { EventEmitter, once } from 'node:events'
import { MessageChannel, type MessagePort } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { answerShell, connectPage, type CoreProcess, type FromCore, type ParentPort } from '#electron/link.ts'

/** A core process as the shell sees it and a parent port as the core sees it, joined. */
function joinProcesses(): { core: CoreProcess<MessagePort>; parent: ParentPort<MessagePort>; answers: FromCore[]; close(): void } {
  const { port1, port2 } = new MessageChannel()
  const events = new EventEmitter()
  const answers: FromCore[] = []
  port1.on('message', (answer: FromCore) => answers.push(answer))
  port2.on('message', ({ message, transfer }: { message: unknown; transfer: MessagePort[] }) => events.emit('message', { data: message, ports: transfer }))
  return {
    core: { postMessage: (message, transfer = []) => port1.postMessage({ message, transfer }, transfer) },
    parent: { postMessage: (message) => port2.postMessage(message), on: (event, listener) => events.on(event, listener) },
    answers,
    close: () => port1.close(),
  }
}

test('a page and the core get the two ends of one channel, and nothing passes through the shell', async () => {
  const { core, parent, close } = joinProcesses()
  const accepted = Promise.withResolvers<MessagePort>()
  answerShell(parent, { accept: accepted.resolve, countRunning: async () => 0, stop: async () => undefined })

  const sent: { channel: string; message: unknown; ports: MessagePort[] }[] = []
  connectPage(core, { postMessage: (channel, message, ports) => sent.push({ channel, message, ports }) }, new MessageChannel())
  expect(sent).toMatchObject([{ channel: 'core-port', message: null }])

  const [pagePort] = sent[0]!.ports
  const corePort = await accepted.promise
  pagePort!.postMessage('from the page')
  expect(await once(corePort, 'message')).toEqual(['from the page'])
  corePort.postMessage('from the core')
  expect(await once(pagePort!, 'message')).toEqual(['from the core'])
  pagePort!.close()
  close()
})

test('the core says how many runs are in progress, and stops when told', async () => {
  const { core, parent, answers, close } = joinProcesses()
  const stopped = Promise.withResolvers<string>()
  answerShell(parent, { accept: () => undefined, countRunning: async () => 2, stop: async () => stopped.resolve('stopped') })
  core.postMessage({ type: 'activity' })
  core.postMessage({ type: 'stop' })
  expect(await stopped.promise).toBe('stopped')
  await expect.poll(() => answers).toEqual([{ type: 'activity', running: 2 }])
  close()
})
