/**
 * What the shell and the core's process say to each other: a few messages, and the ports of pages. Both ends are here,
 * free of Electron, so that a test can put a channel between them. Pages talk to the core over their own ports; nothing
 * of a page passes through the shell.
 */
import type { Running } from './running.ts'

export type ToCore =
  /** A page came up; its port travels with the message. */
  | { type: 'connect' }
  /** How many runs are in progress? */
  | { type: 'activity' }
  /** Save, stop and end the process. */
  | { type: 'stop' }

export type FromCore =
  | { type: 'activity'; running: number }
  /** What runs, told whenever it changes. */
  | { type: 'running'; running: Running }

/** Electron's process handle and parent port, as far as they are used. `Port` is Electron's MessagePortMain. */
export type CoreProcess<Port> = { postMessage(message: ToCore, transfer?: Port[]): void }
export type ParentPort<Port> = {
  postMessage(message: FromCore): void
  on(event: 'message', listener: (event: { data: unknown; ports: Port[] }) => void): void
}
type Page<Port> = { postMessage(channel: string, message: unknown, transfer: Port[]): void }

/** What the core's process does with the messages. */
export type CoreActions<Port> = { accept(port: Port): void; countRunning(): Promise<number>; stop(): Promise<void> }

/** Gives the core one end of a new channel and the page the other. */
export function connectPage<Port>(core: CoreProcess<Port>, page: Page<Port>, channel: { port1: Port; port2: Port }): void {
  core.postMessage({ type: 'connect' }, [channel.port1])
  page.postMessage('core-port', null, [channel.port2])
}

/** Listens to the shell in the core's process. */
export function answerShell<Port>(parent: ParentPort<Port>, actions: CoreActions<Port>): void {
  const answer = async (message: ToCore, ports: Port[]): Promise<void> => {
    switch (message.type) {
      case 'connect':
        return ports.forEach((port) => actions.accept(port))
      case 'activity':
        return parent.postMessage({ type: 'activity', running: await actions.countRunning() })
      case 'stop':
        return actions.stop()
    }
  }
  parent.on('message', ({ data, ports }) => void answer(data as ToCore, ports))
}
