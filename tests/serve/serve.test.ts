/** The served workbench as an attacker, a browser and a script see it: real HTTP and WebSockets on loopback. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { request, type IncomingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createORPCClient } from '@orpc/client'
import { RPCLink as FetchLink } from '@orpc/client/fetch'
import { RPCLink as SocketLink } from '@orpc/client/websocket'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import type { CoreClient } from '#core/main.ts'
import { serve, type Served } from '#core/serve.ts'
import { createAccess, findToken, ownHosts } from '#core/serve/access.ts'
import { hostOn } from '#tests/features/host.ts'

type Site = Served & { printed: string[]; origin: string; host: string; port: number; libraryPath: string }
type Answer = { status: number; headers: IncomingHttpHeaders; body: string }

async function site(): Promise<Site> {
  const folder = mkdtempSync(join(tmpdir(), 'moe-serve-'))
  const rendererPath = join(folder, 'renderer')
  mkdirSync(join(rendererPath, 'assets'), { recursive: true })
  writeFileSync(join(rendererPath, 'index.html'), '<!doctype html><title>page</title>')
  writeFileSync(join(rendererPath, 'assets', 'index-abc123.js'), 'export {}')
  writeFileSync(join(rendererPath, 'favicon.svg'), '<svg xmlns="http://www.w3.org/2000/svg"/>')
  writeFileSync(join(folder, 'secret.txt'), 'secret')
  const printed: string[] = []
  const served = await serve({ port: 0, host: '127.0.0.1', coreHost: hostOn(join(folder, 'library')), rendererPath, print: (line) => printed.push(line) })
  onTestFinished(async () => {
    await served.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const { origin, host, port } = new URL(served.url)
  return { ...served, printed, origin, host, port: Number(port), libraryPath: join(folder, 'library') }
}

/** One request, exactly as given (fetch would tidy the path and set headers of its own). */
function ask({ port, host }: Site, path: string, { method = 'GET', headers = {}, body = '' }: { method?: string; headers?: Record<string, string>; body?: string } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', path, method, headers: { Host: host, ...headers } }, (response) => {
      let text = ''
      response.on('data', (chunk) => (text += String(chunk)))
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

async function signIn(it: Site): Promise<{ Cookie: string }> {
  const { headers } = await ask(it, `/?token=${it.token}`)
  return { Cookie: headers['set-cookie']![0]!.split(';')[0]! }
}

test('the link buys a session once, by a cookie no script and no other site can use', async () => {
  const it = await site()
  const answer = await ask(it, `/?token=${it.token}`)
  expect(answer).toMatchObject({ status: 303, headers: { location: '/', 'cache-control': 'no-store' } })
  expect(answer.headers['set-cookie']).toEqual([expect.stringMatching(new RegExp(`^moe_${it.port}=[A-Za-z0-9_-]{43}; HttpOnly; SameSite=Strict; Path=/$`))])
  const cookie = { Cookie: answer.headers['set-cookie']![0]!.split(';')[0]! }
  expect(await ask(it, '/', { headers: cookie })).toMatchObject({ status: 200, body: expect.stringContaining('<title>page') })
  expect((await ask(it, `/?token=${it.token}`, { headers: cookie })).status).toBe(303)
  expect(it.printed).toEqual([])
})

test('a used link says so and prints a fresh one that works, not more often than every few seconds', async () => {
  const it = await site()
  await signIn(it)
  const used = await ask(it, `/?token=${it.token}`)
  expect(used.status).toBe(401)
  expect(used.body).toContain('has been used before')
  expect(used.headers['set-cookie']).toBeUndefined()
  await ask(it, `/?token=${it.token}`)
  expect(it.printed).toHaveLength(1)
  const fresh = findToken(it.printed[0]!)!
  expect(fresh).not.toBe(it.token)
  expect((await ask(it, `/?token=${fresh}`)).status).toBe(303)
})

test('without a session there is only the sign-in page: no script, and 401 for everything', async () => {
  const it = await site()
  for (const path of ['/', '/runs/abc', '/assets/index-abc123.js', '/favicon.svg', '/index.html']) {
    const answer = await ask(it, path)
    expect(answer.status).toBe(401)
    expect(answer.body).toContain('<form method="post" action="/sign-in">')
    expect(answer.body).not.toMatch(/<script|page<\/title/)
    expect(answer.headers['content-security-policy']).toMatch(/^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'/)
  }
  expect((await ask(it, '/', { headers: { 'Accept-Language': 'zh-CN,zh;q=0.9' } })).body).toContain('lang="zh-CN"')
  expect((await ask(it, '/', { method: 'HEAD' })).status).toBe(401)
  expect((await ask(it, '/', { headers: { Cookie: `moe_${it.port}=wrong; other=1` } })).status).toBe(401)
})

test('the form takes the token or the whole line, from this origin only', async () => {
  const it = await site()
  const post = (token: string, Origin: string): Promise<Answer> =>
    ask(it, '/sign-in', { method: 'POST', headers: { Origin, 'Content-Type': 'application/x-www-form-urlencoded' }, body: new URLSearchParams({ token }).toString() })
  expect((await post(it.token, 'http://evil.example')).status).toBe(403)
  expect((await post(`wrong${it.token}`, it.origin)).status).toBe(403)
  expect((await post(`The workbench is at ${it.url} (works once)`, it.origin)).status).toBe(303)
})

test('wrong tokens are throttled, and guessing ahead does not use the link up', async () => {
  const it = await site()
  expect((await ask(it, `/?token=${it.token}`, { headers: { 'Sec-Purpose': 'prefetch;prerender' } })).status).toBe(503)
  for (let i = 0; i < 20; i++) expect((await ask(it, `/?token=guess${i}`)).status).toBe(403)
  expect((await ask(it, '/?token=guess')).status).toBe(429)
  let clock = 0
  const access = createAccess(() => clock)
  for (let i = 0; i < 20; i++) access.exchange('wrong')
  expect(access.exchange(access.token)).toEqual({ outcome: 'throttled' })
  clock = 61_000
  expect(access.exchange(access.token).outcome).toBe('session')
})

test('another Host is refused, whoever asks', async () => {
  const it = await site()
  const cookie = await signIn(it)
  for (const Host of ['evil.example', `evil.example:${it.port}`, '127.0.0.1', `127.0.0.1:${it.port + 1}`, `127.0.0.1.evil.example:${it.port}`]) {
    expect((await ask(it, '/', { headers: { ...cookie, Host } })).status).toBe(421)
    expect((await ask(it, '/rpc/runs/list', { method: 'POST', headers: { Authorization: `Bearer ${it.apiKey}`, Host } })).status).toBe(421)
  }
  expect((await ask(it, '/', { headers: { ...cookie, Host: `localhost:${it.port}` } })).status).toBe(200)
  expect(ownHosts('0.0.0.0', 80).has('localhost')).toBe(true)
  expect(ownHosts('::1', 4317).has('[::1]:4317')).toBe(true)
})

test('files come with strict headers; only hashed ones are kept by the browser', async () => {
  const it = await site()
  const headers = await signIn(it)
  const page = await ask(it, '/runs/some-run', { headers })
  expect(page).toMatchObject({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' } })
  expect(page.headers).toMatchObject({ 'cross-origin-opener-policy': 'same-origin', 'cross-origin-resource-policy': 'same-origin' })
  const policy = page.headers['content-security-policy'] as string
  for (const directive of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", `connect-src 'self' ws://${it.host}`]) {
    expect(policy.split('; ')).toContain(directive)
  }
  expect(await ask(it, '/assets/index-abc123.js', { headers })).toMatchObject({ status: 200, headers: { 'content-type': 'text/javascript; charset=utf-8', 'cache-control': 'private, max-age=31536000, immutable' } })
  expect((await ask(it, '/favicon.svg', { headers })).headers).toMatchObject({ 'content-type': 'image/svg+xml', 'cache-control': 'no-cache' })
  expect((await ask(it, '/assets/gone.js', { headers })).status).toBe(404)
  expect(await ask(it, '/', { method: 'HEAD', headers })).toMatchObject({ status: 200, body: '' })
  expect((await ask(it, '/', { method: 'DELETE', headers })).status).toBe(405)
})

test('no path leaves the folder', async () => {
  const it = await site()
  const headers = await signIn(it)
  for (const path of ['/../secret.txt', '/%2e%2e/secret.txt', '/assets/..%2f..%2fsecret.txt', '/..%5csecret.txt', '/assets/%2e%2e/%2e%2e/secret.txt', '//secret.txt', '/%00.txt', '/%E0%A4%A', '/.env.txt']) {
    const answer = await ask(it, path, { headers })
    expect(answer.body, path).not.toContain('secret')
    expect([200, 400, 404], path).toContain(answer.status)
  }
})

function openSocket(it: Site, headers: Record<string, string>, path = '/rpc'): Promise<{ socket: WebSocket } | { status: number }> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${it.port}${path}`, { headers })
    socket.on('open', () => resolve({ socket }))
    socket.on('unexpected-response', (sent, response) => {
      sent.destroy()
      resolve({ status: response.statusCode! })
    })
    socket.on('error', reject)
  })
}

test('a WebSocket needs this origin and a session, or the API key', async () => {
  const it = await site()
  const cookie = await signIn(it)
  expect(await openSocket(it, { ...cookie, Origin: 'http://evil.example' })).toEqual({ status: 403 })
  expect(await openSocket(it, { ...cookie, Origin: `http://127.0.0.1:${it.port + 1}` })).toEqual({ status: 403 })
  expect(await openSocket(it, { ...cookie, Origin: 'null' })).toEqual({ status: 403 })
  expect(await openSocket(it, cookie)).toEqual({ status: 403 })
  expect(await openSocket(it, { Origin: it.origin })).toEqual({ status: 401 })
  expect(await openSocket(it, { ...cookie, Origin: `http://evil.example:${it.port}`, Host: `evil.example:${it.port}` })).toEqual({ status: 421 })
  expect(await openSocket(it, { ...cookie, Origin: it.origin }, '/other')).toEqual({ status: 404 })
  expect(await openSocket(it, { Authorization: `Bearer ${it.apiKey}`, Origin: 'http://evil.example' })).toEqual({ status: 403 })
  expect(await openSocket(it, { Authorization: 'Bearer wrong' })).toEqual({ status: 403 })

  for (const headers of [{ ...cookie, Origin: it.origin }, { Authorization: `Bearer ${it.apiKey}` }]) {
    const opened = await openSocket(it, headers as Record<string, string>)
    if (!('socket' in opened)) throw new Error(`refused with ${opened.status}`)
    const client: CoreClient = createORPCClient(new SocketLink({ websocket: opened.socket as never }))
    expect(await client.runs.list()).toEqual([])
    await expect(client.runs.get({ id: 'x' })).rejects.toMatchObject({ data: { code: 'runs.notFound' } })
    opened.socket.close()
  }
})

test('scripts call over HTTP with the API key; a cookie is not enough', async () => {
  const it = await site()
  const cookie = await signIn(it)
  const withKey = createORPCClient(new FetchLink({ url: `${it.origin}/rpc`, headers: { Authorization: `Bearer ${it.apiKey}` } })) as CoreClient
  expect(await withKey.quickstart.state()).toMatchObject({ status: 'idle' })
  await expect(withKey.runs.get({ id: 'x' })).rejects.toMatchObject({ data: { code: 'runs.notFound' } })
  expect((await ask(it, '/rpc/runs/list', { method: 'POST', headers: cookie })).status).toBe(401)
  expect((await ask(it, '/rpc/runs/list', { method: 'POST', headers: { Authorization: `Bearer ${it.apiKey}`, Origin: 'http://evil.example' } })).status).toBe(403)
  expect((await ask(it, '/rpc/no/such', { method: 'POST', headers: { Authorization: `Bearer ${it.apiKey}` } })).status).toBe(404)
})

test('it listens on loopback only, a port in use is named, and closing ends streams and releases the library', async () => {
  const it = await site()
  await expect(serve({ port: it.port, host: '127.0.0.1', coreHost: hostOn(`${it.libraryPath}-2`), rendererPath: '/nowhere' })).rejects.toMatchObject({ code: 'serve.portInUse', params: { port: it.port } })
  expect(readdirSync(`${it.libraryPath}-2`)).not.toContain('library.lock')

  const opened = await openSocket(it, { Authorization: `Bearer ${it.apiKey}` })
  if (!('socket' in opened)) throw new Error('refused')
  const closed = new Promise((resolve) => opened.socket.once('close', resolve))
  const client: CoreClient = createORPCClient(new SocketLink({ websocket: opened.socket as never }))
  const reading = (async () => {
    for await (const _ of await client.runs.watchAll());
  })()
  await client.runs.list()
  await it.close()
  await reading
  expect(await closed).toBe(1001)
  expect(readdirSync(it.libraryPath)).not.toContain('library.lock')
  await expect(new Promise((resolve, reject) => connect(it.port, '127.0.0.1').once('connect', resolve).once('error', reject))).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})

test('listening on the network is warned of', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-serve-'))
  const printed: string[] = []
  const served = await serve({ port: 0, host: '0.0.0.0', coreHost: hostOn(join(folder, 'library')), rendererPath: folder, print: (line) => printed.push(line) })
  onTestFinished(async () => {
    await served.close()
    rmSync(folder, { recursive: true, force: true })
  })
  expect(printed[0]).toContain('not encrypted')
  expect(served.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\?token=/)
})
