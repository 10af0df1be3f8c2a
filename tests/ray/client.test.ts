/** What is said when an address is no Ray: nobody there, somebody else, a refusal, or an answer that nobody can read. */
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { rayClient } from '#core/ray/client.ts'

let server: Server | null = null

async function serve(answer: (response: ServerResponse, url: string) => void): Promise<string> {
  server = createServer((request, response) => answer(response, request.url ?? ''))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

afterEach(() => {
  server?.closeAllConnections()
  server?.close()
  server = null
})

const submission = { submissionId: 'moe-1', entrypoint: 'python train.py', environment: {}, metadata: {} }

test('nobody there', async () => {
  const address = await serve(() => undefined)
  server!.close()
  await expect(rayClient(address).check()).rejects.toMatchObject({ code: 'ray.unreachable', params: { address, found: 'ECONNREFUSED' } })
})

test('a server that is no Ray, and one without the job API', async () => {
  const address = await serve((response) => response.writeHead(404).end('nothing here'))
  for (const call of [rayClient(address).check(), rayClient(address).submit(submission), rayClient(address).job('moe-1')]) await expect(call).rejects.toMatchObject({ code: 'ray.notRay' })
})

test('a job that Ray does not know is none', async () => {
  const address = await serve((response) => response.writeHead(404).end('Job moe-1 does not exist'))
  expect(await rayClient(address).job('moe-1')).toBeNull()
})

test('a refusal is told with its last line, a missing token with what to do', async () => {
  const address = await serve((response, url) => (url === '/api/version' ? response.writeHead(401).end('no token') : response.writeHead(500).end('Traceback:\n  …\nRuntimeError: no room\n')))
  await expect(rayClient(address).check()).rejects.toMatchObject({ code: 'ray.refused', params: { status: 401 }, hint: expect.stringContaining('RAY_AUTH_TOKEN') as string })
  await expect(rayClient(address).submit(submission)).rejects.toMatchObject({ code: 'ray.refused', params: { status: 500, found: 'RuntimeError: no room' } })
})

test.each(['<html>hello</html>', '', '{"status":"DANCING"}', '[]'])('garbage is not taken for a state: %s', async (text) => {
  const address = await serve((response) => response.end(text))
  await expect(rayClient(address).job('moe-1')).rejects.toMatchObject({ code: 'ray.notRay' })
  await expect(rayClient(address).log('moe-1')).rejects.toMatchObject({ code: 'ray.notRay' })
})
