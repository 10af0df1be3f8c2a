/** A served library with one trained tiny model and its API switched on: what the API's tests and its benchmark stand on. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { nodeHost } from '#core/node-host.ts'
import { loadTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { serve, type Served } from '#core/serve.ts'
import { makeTinyLibrary, tinyConfig } from '../runs/tiny-library.ts'

export type TinyApi = { served: Served; base: string; model: string; folder: string; tokenizer: Tokenizer }

export async function openTinyApi(overrides: Record<string, unknown> = {}): Promise<TinyApi> {
  const places = makeTinyLibrary()
  const rendererPath = join(places.libraryPath, '..', 'renderer')
  mkdirSync(rendererPath)
  const served = await serve({ port: 0, host: '127.0.0.1', coreHost: nodeHost({ kind: 'test', ...places }), rendererPath, api: true, print: () => undefined })
  const { client } = served.core
  const { id } = await client.runs.create({ config: tinyConfig({ steps: 40, ...overrides }) })
  for (let run = await client.runs.get({ id }); run.status !== 'done'; run = await client.runs.get({ id })) {
    if (run.error !== null) throw new Error(run.error.message)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const model = (await client.checkpoints.list({ runId: id }))[0]!.id
  const folder = join(places.libraryPath, 'checkpoints', model)
  return { served, base: `${new URL(served.url).origin}/v1`, model, folder, tokenizer: loadTokenizer(join(folder, 'tokenizer.json')) }
}

