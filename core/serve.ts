/**
 * The workbench over HTTP: the built page and the contract at /rpc, for the browser of whoever has the link. Listens on
 * loopback unless told otherwise, answers to its own Host and Origin only, and serves nothing without a session (or, for
 * scripts, the API key). Any origin may send requests to a loopback port: each check here is one such page kept out.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { startCore, type Core } from './main.ts'
import { createAccess, findToken, isLoopback, ownHosts, readCookie, type Access } from './serve/access.ts'
import { commonHeaders, readPageFile, securityHeaders } from './serve/files.ts'
import { signInHeaders, signInPage, signInStatus, type SignInReason } from './serve/sign-in.ts'
import { AppError } from './shared/errors.ts'
import type { Host } from './shared/host.ts'

export type ServeOptions = {
  /** 0: any free one; null: the usual one, or any when that is taken. */
  port: number | null
  /** Address to listen on; anything but loopback opens the workbench to the network, and is warned of. */
  host: string
  coreHost: Host
  /** Folder of the built page. */
  rendererPath: string
  /** Answers the OpenAI-compatible API under /v1 too, for the API key and the keys of the library. */
  api?: boolean
  /** Where links and warnings go: stderr unless given. */
  print?: (line: string) => void
}

export type Served = {
  /** The link with the one-time token. */
  url: string
  token: string
  apiKey: string
  core: Core
  close(): Promise<void>
}

const usualPort = 4317
const largestMessageBytes = 4 << 20
const largestFormBytes = 8 << 10
const linkEveryMs = 5000
const pingEveryMs = 30_000

/** Starts the core and serves it. Throws what startCore throws, serve.portInUse and serve.addressRefused. */
export async function serve({ port, host, coreHost, rendererPath, api = false, print = (line) => void process.stderr.write(`${line}\n`) }: ServeOptions): Promise<Served> {
  const core = await startCore(coreHost)
  const server = createServer()
  try {
    await listen(server, host, port)
  } catch (error) {
    await core.close()
    throw error
  }
  const listening = (server.address() as AddressInfo).port
  const access = createAccess()
  const site: Site = { access, core, api, rendererPath, hosts: ownHosts(host, listening), cookie: `moe_${listening}`, printLink: linkPrinter(access, origin(host, listening), print) }
  server.on('request', (request, response) => {
    answer(site, request, response).catch((error: unknown) => {
      coreHost.log('error', `${request.method} request: ${error instanceof Error ? error.stack : String(error)}`)
      if (!response.headersSent) response.writeHead(500)
      response.end()
    })
  })
  const sockets = acceptSockets(server, site)
  if (!isLoopback(host)) print(`Listening on ${host}: whoever can reach this machine and has the link can use the workbench, and what they send is not encrypted.`)

  return {
    url: `${origin(host, listening)}/?token=${access.token}`,
    token: access.token,
    apiKey: access.apiKey,
    core,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      await core.close()
      for (const socket of sockets.clients) socket.close(1001, 'the workbench stopped')
      sockets.close()
      server.closeAllConnections()
      for (const socket of sockets.clients) socket.terminate()
      await closed
    },
  }
}

type Site = { access: Access; core: Core; api: boolean; rendererPath: string; hosts: Set<string>; cookie: string; printLink: () => void }

async function listen(server: Server, host: string, port: number | null): Promise<void> {
  const attempt = (wanted: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(wanted, host, () => {
        server.off('error', reject)
        resolve()
      })
    })
  try {
    await attempt(port ?? usualPort)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE' && port === null) return attempt(0)
    if (code === 'EADDRINUSE') throw new AppError('serve.portInUse', `Port ${port} is in use`, { params: { port: port! }, hint: 'Give another --port, or 0 for any free one.', cause: error })
    throw new AppError('serve.addressRefused', `Cannot listen on ${host}, port ${port ?? usualPort}: ${(error as Error).message}`, { params: { host, port: port ?? usualPort }, hint: 'Check --host and --port; ports below 1024 need privileges.', cause: error })
  }
}

/** The origin to print: an address one can connect to, where all were listened on. */
function origin(host: string, port: number): string {
  const address = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`
}

/** Prints a link that works, at most every few seconds. */
function linkPrinter(access: Access, base: string, print: (line: string) => void): () => void {
  let printedAt = -Infinity
  return () => {
    if (performance.now() - printedAt < linkEveryMs) return
    printedAt = performance.now()
    print(`A fresh link to the workbench: ${base}/?token=${access.renewToken()}`)
  }
}

const hasOwnHost = ({ hosts }: Site, request: IncomingMessage): boolean => hosts.has((request.headers.host ?? '').toLowerCase())
const hasOwnOrigin = (request: IncomingMessage): boolean => request.headers.origin?.toLowerCase() === `http://${request.headers.host?.toLowerCase()}`

async function answer(site: Site, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!hasOwnHost(site, request)) return end(response, 421, 'This server does not answer to that name.')
  const url = URL.parse(request.url ?? '/', 'http://own')
  if (url === null) return end(response, 400, 'Not a path.')
  const { pathname, search } = url
  if (pathname.startsWith('/rpc/')) return answerRpc(site, request, response)
  if (site.api && pathname.startsWith('/v1/')) return site.core.answerApi(request, response, site.access.isApiKey)
  if (pathname === '/sign-in' && request.method === 'POST') {
    if (!hasOwnOrigin(request)) return end(response, 403, 'Not from this origin.')
    return signIn(site, request, response, findToken(await readForm(request)))
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return end(response, 405, 'Only GET and HEAD.', { Allow: 'GET, HEAD' })
  const isSignedIn = site.access.hasSession(readCookie(request, site.cookie))
  if (search.includes('token=') && request.method === 'GET') {
    // A browser that guesses ahead must not use up the link.
    if (request.headers['sec-purpose'] !== undefined) return end(response, 503, 'Not ahead of time.')
    return isSignedIn ? end(response, 303, '', { Location: '/' }) : signIn(site, request, response, findToken(search))
  }
  if (!isSignedIn) return refuse(request, response, 'none')
  const file = await readPageFile(site.rendererPath, pathname)
  if (file === null) return end(response, 404, 'Not found.')
  response.writeHead(200, { ...securityHeaders(request.headers.host!), 'Content-Type': file.contentType, 'Cache-Control': file.cacheControl, 'Content-Length': file.body.length })
  response.end(request.method === 'HEAD' ? undefined : file.body)
}

/** The contract over plain HTTP, for scripts: the API key only, so that no page can use a browser's cookie for it. */
async function answerRpc({ access, core }: Site, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!access.hasApiKey(request)) return end(response, 401, 'Expected "Authorization: Bearer <apiKey>".')
  if (request.headers.origin !== undefined && !hasOwnOrigin(request)) return end(response, 403, 'Not from this origin.')
  if (!(await core.answerHttp(request, response, '/rpc'))) end(response, 404, 'There is no such call.')
}

function signIn({ access, cookie, printLink }: Site, request: IncomingMessage, response: ServerResponse, token: string | undefined): void {
  const exchange = access.exchange(token ?? '')
  if (exchange.outcome === 'session') {
    return end(response, 303, '', { Location: '/', 'Set-Cookie': `${cookie}=${exchange.session}; HttpOnly; SameSite=Strict; Path=/` })
  }
  if (exchange.outcome === 'used') printLink()
  refuse(request, response, exchange.outcome)
}

function refuse(request: IncomingMessage, response: ServerResponse, reason: SignInReason): void {
  response.writeHead(signInStatus[reason], signInHeaders)
  response.end(request.method === 'HEAD' ? undefined : signInPage(reason, request.headers['accept-language']))
}

function end(response: ServerResponse, status: number, text: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store', 'Content-Security-Policy': "default-src 'none'", ...commonHeaders, ...headers })
  response.end(text)
}

async function readForm(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of request) {
    body += String(chunk)
    if (body.length > largestFormBytes) return ''
  }
  return new URLSearchParams(body).get('token') ?? ''
}

/** WebSockets at /rpc: a session and this origin (a browser), or the API key (a script). */
function acceptSockets(server: Server, site: Site): WebSocketServer {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: largestMessageBytes })
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const refusal = whyNotSocket(site, request)
    if (refusal !== null) {
      socket.on('error', () => undefined)
      socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
      return
    }
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      accepted.on('error', () => accepted.terminate())
      let isAlive = true
      accepted.on('pong', () => (isAlive = true))
      const pings = setInterval(() => {
        if (!isAlive) return accepted.terminate()
        isAlive = false
        accepted.ping()
      }, pingEveryMs)
      accepted.on('close', () => clearInterval(pings))
      site.core.connectSocket(accepted)
    })
  })
  return sockets
}

function whyNotSocket(site: Site, request: IncomingMessage): string | null {
  if (!hasOwnHost(site, request)) return '421 Misdirected Request'
  if (URL.parse(request.url ?? '/', 'http://own')?.pathname !== '/rpc') return '404 Not Found'
  if (request.headers.origin !== undefined && !hasOwnOrigin(request)) return '403 Forbidden'
  if (site.access.hasApiKey(request)) return null
  if (request.headers.origin === undefined) return '403 Forbidden'
  return site.access.hasSession(readCookie(request, site.cookie)) ? null : '401 Unauthorized'
}
