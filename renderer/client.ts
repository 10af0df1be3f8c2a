/**
 * The page's one line to the core: a typed client over a WebSocket of the page's own origin, or over the MessagePort
 * that Electron's preload hands over. Owns connecting, reconnecting and the wire form of errors. Calls fail at once while
 * the connection is lost (a click must not fire minutes later); streams opened by `follow` come back by themselves.
 */
import { createORPCClient, ORPCError, type ClientLink } from '@orpc/client'
import { RPCLink as PortLink } from '@orpc/client/message-port'
import { RPCLink as SocketLink } from '@orpc/client/websocket'
import type { ContractRouterClient } from '@orpc/contract'
import { reactive } from 'vue'
import { errorDataSchema } from '#core/shared/common.ts'
import type { contract } from '#core/shared/contract.ts'
import { AppError, toErrorData, type ErrorData } from '#core/shared/errors.ts'

type Link = ClientLink<Record<never, never>>

export const connection = reactive({
  /** `denied`: the core answers, but not to this page (its access token is gone). */
  state: 'connecting' as 'connecting' | 'open' | 'lost' | 'denied',
})

const firstRetryMs = 400
const longestRetryMs = 8000

let link: Link | null = null
let opened = Promise.withResolvers<void>()
let attempt = 0
let retryTimer = 0

export const api: ContractRouterClient<typeof contract> = createORPCClient({
  async call(path, input, options) {
    if (connection.state === 'connecting') await opened.promise
    if (!link) throw new AppError('connection.lost', 'The connection to the core is lost.')
    return link.call(path, input, options)
  },
} satisfies Link)

/** Starts the connection; called once. */
export function connect(): void {
  if (navigator.userAgent.includes('Electron/')) {
    window.addEventListener('message', (event) => {
      const port = event.source === window && event.data === 'moe-port' ? event.ports[0] : undefined
      if (port) usePort(port)
    })
    return
  }
  openSocket()
  // The machine woke up or the network came back: do not wait out the pause.
  for (const event of ['online', 'focus']) window.addEventListener(event, retryNow)
}

/** Tries again at once when the connection is lost. */
export function retryNow(): void {
  if (retryTimer === 0) return
  clearTimeout(retryTimer)
  retryTimer = 0
  openSocket()
}

function usePort(port: MessagePort): void {
  const mine: Link = new PortLink({ port })
  port.addEventListener('close', () => lost(mine))
  port.start()
  open(mine)
}

function openSocket(): void {
  const address = new URL('/rpc', location.href)
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
  const websocket = new WebSocket(address)
  const mine: Link = new SocketLink({ websocket })
  websocket.addEventListener('open', () => open(mine))
  websocket.addEventListener('close', () => {
    lost(mine)
    const pauseMs = Math.min(longestRetryMs, firstRetryMs * 2 ** attempt++) * (0.8 + 0.4 * Math.random())
    retryTimer = window.setTimeout(retryNow, pauseMs)
    if (attempt > 1) void checkAccess()
  })
}

function open(mine: Link): void {
  link = mine
  attempt = 0
  connection.state = 'open'
  opened.resolve()
}

function lost(mine: Link): void {
  if (link === mine || link === null) {
    if (link) opened = Promise.withResolvers()
    link = null
    if (connection.state !== 'denied') connection.state = 'lost'
  }
}

/** A socket that is refused does not say why; an ordinary request does. */
async function checkAccess(): Promise<void> {
  const status = await fetch('./', { method: 'HEAD', cache: 'no-store' }).then((response) => response.status, () => 0)
  if (link === null) connection.state = status === 401 || status === 403 ? 'denied' : 'lost'
}

/**
 * Follows a stream until the returned function is called, and opens it again whenever the connection comes back.
 * `start` runs each time it is open, before its first event: the place to load what happened before.
 * A refusal by the core (an unknown id) ends it with `failed`.
 */
export function follow<E>(
  openStream: (signal: AbortSignal) => Promise<AsyncIterable<E>>,
  on: { event: (event: E) => void; start?: () => unknown; failed?: (error: ErrorData) => void },
): () => void {
  const stopper = new AbortController()
  const { signal } = stopper
  void (async () => {
    while (!signal.aborted) {
      await opened.promise
      try {
        const stream = await openStream(signal)
        on.start?.()
        for await (const event of stream) {
          if (signal.aborted) return
          on.event(event)
        }
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof ORPCError) return on.failed?.(errorData(error))
      }
      await new Promise((resolve) => setTimeout(resolve, firstRetryMs))
    }
  })()
  return () => stopper.abort()
}

/** The error data of anything that a call can throw. */
export function errorData(error: unknown): ErrorData {
  if (!(error instanceof ORPCError)) return toErrorData(error)
  const known = errorDataSchema.safeParse(error.data)
  if (known.success) return known.data
  const issues = (error.data as { issues?: { path?: PropertyKey[]; message: string }[] } | undefined)?.issues
  if (issues?.[0]) {
    const field = (issues[0].path ?? []).map(String).join('.')
    return { code: 'input.invalid', message: `${field}: ${issues[0].message}`, params: { field, problem: issues[0].message }, hint: '' }
  }
  return { code: 'internal', message: error.message, params: {}, hint: '' }
}
