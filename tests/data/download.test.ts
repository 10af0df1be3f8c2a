/** Downloads against a server on loopback that drops connections, forgets ranges, changes its file, redirects and refuses. */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { downloadFile } from '#core/data/download/download.ts'
import { listHubFiles } from '#core/data/download/hugging-face.ts'

const content = randomBytes(1_000_000)
const sha256 = createHash('sha256').update(content).digest('hex')
const quick = { retryMs: 1, attempts: 3 }

async function serve(answer: (request: IncomingMessage, response: ServerResponse, count: number) => void): Promise<{ url: string; path: string; count: () => number }> {
  let count = 0
  const server = createServer((request, response) => answer(request, response, ++count))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const folder = mkdtempSync(join(tmpdir(), 'moe-download-'))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`, path: join(folder, 'data', 'file'), count: () => count }
}

/** Answers a range of `bytes`; drops the connection after `limit` bytes of it. */
function send(request: IncomingMessage, response: ServerResponse, bytes: Buffer, { limit = Infinity, etag = '"1"' } = {}): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? -1)
  const isRange = from >= 0 && request.headers['if-range'] === etag
  const rest = bytes.subarray(isRange ? from : 0)
  response.writeHead(isRange ? 206 : 200, { etag, 'content-length': rest.length, ...(isRange && { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }) })
  if (limit >= rest.length) response.end(rest)
  else response.write(rest.subarray(0, limit), () => setTimeout(() => response.destroy(), 5))
}

test('a server that drops every connection is read to the end, each byte asked for once', async () => {
  let ranges = 0
  const { url, path } = await serve((request, response) => {
    ranges += Number(request.headers.range !== undefined)
    send(request, response, content, { limit: 150_000 })
  })
  const done = await downloadFile({ url, path, sha256 }, quick)
  expect(done).toMatchObject({ sizeBytes: content.length, sha256 })
  expect(done.requests).toBeGreaterThan(5)
  expect(ranges).toBe(done.requests - 1)
  expect(readFileSync(path).equals(content)).toBe(true)
  expect(existsSync(`${path}.part`)).toBe(false)
})

test('a stopped download goes on later; one whose file changed meanwhile begins anew', async () => {
  const other = randomBytes(600_000)
  let version = 1
  const { url, path } = await serve((request, response) => send(request, response, version === 1 ? content : other, { limit: version === 1 ? 200_000 : Infinity, etag: `"${version}"` }))
  const stop = new AbortController()
  await expect(downloadFile({ url, path, sha256: null }, { ...quick, signal: stop.signal, onProgress: (bytes) => bytes > 300_000 && stop.abort(new Error('stopped')) })).rejects.toThrow('stopped')
  expect([existsSync(path), existsSync(`${path}.part`)]).toEqual([false, true])
  version = 2
  await downloadFile({ url, path, sha256: null }, quick)
  expect(readFileSync(path).equals(other)).toBe(true)
})

test('a wrong hash, a refusal and silence are errors that say what to do; no file appears', async () => {
  const { url, path, count } = await serve((request, response, n) => {
    if (request.url === '/file') send(request, response, content)
    else if (request.url === '/secret') response.writeHead(401).end()
    else if (n > 0) response.destroy()
  })
  await expect(downloadFile({ url, path, sha256: 'a'.repeat(64) }, quick)).rejects.toMatchObject({ code: 'download.wrongHash' })
  await expect(downloadFile({ url: url.replace('file', 'secret'), path, sha256: null }, quick)).rejects.toMatchObject({ code: 'download.failed', params: { found: 'HTTP 401' } })
  const before = count()
  await expect(downloadFile({ url: url.replace('file', 'silent'), path, sha256: null }, quick)).rejects.toThrow(/3 attempts/)
  expect(count() - before).toBe(3)
  expect([existsSync(path), existsSync(`${path}.part`)]).toEqual([false, false])
})

test('the token goes to the host that was asked and to no other', async () => {
  const seen: (string | undefined)[] = []
  const storage = await serve((request, response) => {
    seen.push(request.headers.authorization)
    send(request, response, content)
  })
  const hub = await serve((request, response) => {
    seen.push(request.headers.authorization)
    response.writeHead(302, { location: storage.url }).end()
  })
  await downloadFile({ url: hub.url, path: hub.path, sha256 }, { ...quick, token: 'secret' })
  expect(seen).toEqual(['Bearer secret', undefined])
})

test('a data set of a hub: pages of files with their hashes; names that lead out are refused', async () => {
  let evil = false
  const hub = await serve((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, 'http://localhost')
    if (pathname === '/api/datasets/owner/set/tree/main') {
      const isSecond = searchParams.get('cursor') === '2'
      const files = isSecond ? [{ type: 'file', path: evil ? '../../evil.jsonl' : 'data/b.jsonl', size: 3 }] : [{ type: 'directory', path: 'data' }, { type: 'file', path: 'data/a.parquet', size: content.length, lfs: { oid: sha256 } }, { type: 'file', path: 'picture.png', size: 1 }]
      response.writeHead(200, isSecond ? {} : { link: '</api/datasets/owner/set/tree/main?recursive=true&cursor=2>; rel="next"' }).end(JSON.stringify(files))
    } else if (pathname === '/datasets/owner/set/resolve/main/data/a.parquet') send(request, response, content, { limit: 400_000 })
    else response.writeHead(404).end()
  })
  const dataset = { repository: 'owner/set', hub: new URL(hub.url).origin }
  const files = await listHubFiles(dataset, hub.path)
  expect(files.map(({ path, sha256: hash, sizeBytes }) => [path.slice(hub.path.length + 1), hash, sizeBytes])).toEqual([[join('data', 'a.parquet'), sha256, content.length], [join('data', 'b.jsonl'), null, 3]])
  expect(await downloadFile(files[0]!, quick)).toMatchObject({ sha256 })
  evil = true
  await expect(listHubFiles(dataset, hub.path)).rejects.toMatchObject({ code: 'download.failed', params: { found: 'the file name ../../evil.jsonl' } })
  await expect(listHubFiles({ ...dataset, repository: 'owner/none' }, hub.path)).rejects.toThrow(/HTTP 404/)
})

test('`moe data download` takes a data set from a mirror that drops connections, and finds nothing new the second time', { timeout: 30_000 }, async () => {
  const rows = Buffer.from('{"text":"one"}\n'.repeat(20_000))
  const digest = createHash('sha256').update(rows).digest('hex')
  const authorizations = new Set<string | undefined>()
  const { url, path, count } = await serve((request, response) => {
    authorizations.add(request.headers.authorization)
    if (!request.url!.startsWith('/api/')) return send(request, response, rows, { limit: 120_000 })
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify([{ type: 'file', path: 'data/part.jsonl', size: rows.length, lfs: { oid: digest } }, { type: 'file', path: 'README.bin', size: 3 }]))
  })
  const out = join(path, '..', 'set')
  const run = (): Promise<{ code: number; json: { folder: string; files: { path: string; sizeBytes: number; sha256: string; requests: number }[] } }> =>
    new Promise((done) => {
      const args = [resolve(import.meta.dirname, '../../core/cli.ts'), 'data', 'download', 'owner/set', '--out', out, '--mirror', new URL(url).origin, '--json']
      execFile(process.execPath, args, { env: { ...process.env, HF_TOKEN: 'secret' } }, (error, stdout) => done({ code: error ? Number(error.code) : 0, json: JSON.parse(stdout || 'null') as never }))
    })
  const first = await run()
  expect(first).toMatchObject({ code: 0, json: { folder: out, files: [{ path: join(out, 'data/part.jsonl'), sizeBytes: rows.length, sha256: digest }] } })
  expect(first.json.files[0]!.requests).toBeGreaterThan(2)
  expect(readFileSync(join(out, 'data/part.jsonl')).equals(rows)).toBe(true)
  expect([...authorizations]).toEqual(['Bearer secret'])
  const before = count()
  expect((await run()).json.files).toEqual([])
  expect(count()).toBe(before + 1)
})
