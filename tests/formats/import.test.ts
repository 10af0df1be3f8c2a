/** In and out through the product: its commands on a real library, real runner processes, a hub on loopback that drops connections. */
import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { parseCommand } from '#core/cli/command.ts'
import { evalLogprobs } from '#core/cli/eval-logprobs.ts'
import { exportCommand } from '#core/cli/export.ts'
import { importCommand } from '#core/cli/import.ts'
import { runs } from '#core/cli/runs.ts'
import { verifyBundle } from '#core/formats/bundle.ts'
import { toErrorData } from '#core/shared/errors.ts'
import type { ExportResult, ImportResult } from '#core/shared/exchange.ts'
import type { Run } from '#core/shared/runs.ts'
import { openModelSource } from '#core/train/model-source.ts'
import { exportGguf } from '#core/train/export/gguf.ts'
import { importModel } from '#core/train/import-model.ts'
import { smallConfig, writeSmallModel } from './small-model.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-import-'))
const model = join(folder, 'own')
const ids = JSON.stringify([[0, 45, 300, 17, 260, 91, 333, 5, 5, 120, 77, 210, 38]])
const identity = { id: 'c1', runId: 'r1', name: 'n', createdAt: 0, codeVersion: 'test', from: 'own' }

beforeAll(async () => {
  await writeSmallModel(model)
  writeFileSync(join(folder, 'ids.json'), ids)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const commands = [importCommand, exportCommand, evalLogprobs, runs]

/** A command as the command line runs it, in this process; the work of imports is in runner processes all the same. */
async function moe<T>(library: string, [name, ...args]: string[]): Promise<{ code: number; json: T }> {
  const command = commands.find((one) => one.name === name)!
  const context = { json: true, library: join(folder, library), progress: () => undefined, note: () => undefined }
  try {
    return { code: 0, json: (await command.run(parseCommand(command, args), context)) as T }
  } catch (error) {
    return { code: 1, json: { error: toErrorData(error) } as T }
  }
}
/** Log-probabilities; an error is one. */
async function scores(library: string, name: string, ...more: string[]): Promise<unknown> {
  const { code, json } = await moe<{ logprobs: unknown }>(library, ['eval-logprobs', '--model', name, '--tokens', join(folder, 'ids.json'), ...more])
  expect(code, JSON.stringify(json)).toBe(0)
  return json.logprobs
}

test('a folder is imported as it is: same bytes, same log-probabilities; it exports again with a check', async () => {
  const { json, code } = await moe<ImportResult>('a', ['import', join(folder, 'own'), '--name', 'From elsewhere'])
  expect(code).toBe(0)
  const kept = join(folder, 'a', 'checkpoints', json.checkpointId)
  for (const name of ['model.safetensors', 'config.json', 'tokenizer.json']) expect(readFileSync(join(kept, name)).equals(readFileSync(join(model, name))), name).toBe(true)
  expect(json.files['model.safetensors']!.sha256).toBe(createHash('sha256').update(readFileSync(join(model, 'model.safetensors'))).digest('hex'))
  expect(await scores('a', json.checkpointId)).toEqual(await scores('a', model))
  const [run] = (await moe<Run[]>('a', ['runs'])).json
  expect(run).toMatchObject({ id: json.runId, name: 'From elsewhere', status: 'done', step: 0, config: { stage: 'import', steps: 0 } })

  const exported = await moe<ExportResult>('a', ['export', '--model', json.checkpointId, '--to', 'onnx', '--out', join(folder, 'onnx'), '--check'])
  expect(exported.json.parity).toMatchObject({ engine: 'onnxruntime' })
  expect(exported.json.parity!.maxDifference).toBeLessThan(2e-5)
  expect((await moe('a', ['export', '--model', join(folder, 'own'), '--to', 'onnx', '--out', join(folder, 'onnx')])).json).toMatchObject({ error: { code: 'file.exists' } })
  expect((await moe('a', ['import', join(folder, 'nothing-there')])).code).toBe(1)
})

test('a GGUF file is a model of every command, and an import of it keeps its 4 bits', async () => {
  await exportGguf(model, join(folder, 'small.gguf'), 'q4')
  const direct = await scores('b', join(folder, 'small.gguf'))
  const { json } = await moe<ImportResult>('b', ['import', join(folder, 'small.gguf')])
  expect(Object.keys(json.files).sort()).toEqual(['config.json', 'model.packed', 'state.json', 'tokenizer.json'])
  expect(await scores('b', json.checkpointId)).toEqual(direct)
  const again = await moe<ExportResult>('b', ['export', '--model', json.checkpointId, '--to', 'gguf', '--type', 'q4', '--out', join(folder, 'again.gguf'), '--check'])
  expect(again).toMatchObject({ code: 0, json: { parity: { maxDifference: 0 } } })
  const [from, to] = [openModelSource(join(folder, 'small.gguf')), openModelSource(join(folder, 'again.gguf'))]
  const expert = 'model.layers.1.mlp.experts.7.up_proj.weight'
  expect(to.readRows(expert, [32, 64], 'q4')).toEqual(from.readRows(expert, [32, 64], 'q4'))
  from.close()
  to.close()
})

test('packed while importing: what "moe quantize" makes of the same folder', async () => {
  const { json } = await moe<ImportResult>('c', ['import', join(folder, 'own'), '--type', 'q8'])
  expect(await scores('c', json.checkpointId)).toEqual(await scores('c', model, '--dtype', 'q8'))
})

test('a model of a hub that drops every connection comes whole, with its token; a second revision that is not there is refused', async () => {
  const seen = new Set<string | undefined>()
  const files = readdirSync(model)
  const server = createServer((request, response) => {
    seen.add(request.headers.authorization)
    const { pathname } = new URL(request.url!, 'http://localhost')
    const name = pathname.split('/').at(-1)!
    if (pathname === '/api/models/owner/small/tree/main') {
      const tree = [...files, 'pickle.bin'].map((path) => ({ type: 'file', path, size: path === 'pickle.bin' ? 1 : statSync(join(model, path)).size, ...(path.endsWith('safetensors') && { lfs: { oid: createHash('sha256').update(readFileSync(join(model, path))).digest('hex') } }) }))
      return void response.end(JSON.stringify(tree))
    }
    if (!pathname.startsWith('/owner/small/resolve/main/') || !files.includes(name)) return void response.writeHead(404).end()
    const bytes = readFileSync(join(model, name))
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const rest = bytes.subarray(from)
    response.writeHead(from > 0 ? 206 : 200, { etag: '"1"', 'content-length': rest.length, ...(from > 0 && { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }) })
    if (rest.length <= 200_000) response.end(rest)
    else response.write(rest.subarray(0, 200_000), () => setTimeout(() => response.destroy(), 5))
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  onTestFinished(() => {
    server.close()
    delete process.env.HF_ENDPOINT
    delete process.env.HF_TOKEN
  })
  Object.assign(process.env, { HF_ENDPOINT: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, HF_TOKEN: 'secret' })
  const { json } = await moe<ImportResult>('d', ['import', 'owner/small'])
  expect(await scores('d', json.checkpointId)).toEqual(await scores('d', model))
  expect([...seen]).toEqual(['Bearer secret'])
  expect(readdirSync(join(folder, 'd', 'downloads'))).toEqual([])
  expect((await moe('d', ['import', 'owner/small', '--revision', 'v2'])).json).toMatchObject({ error: { code: 'download.failed' } })
}, 30_000)

test('a bundle goes to another library and comes back byte for byte; one changed byte, and nothing is taken', async () => {
  const { json } = await moe<ImportResult>('e', ['import', join(folder, 'own'), '--name', 'Released'])
  const bundle = join(folder, 'bundle')
  const { json: made } = await moe<ExportResult>('e', ['export', '--model', json.checkpointId, '--to', 'bundle', '--out', join(folder, 'bundle')])
  expect(Object.keys(made.files)).toEqual(expect.arrayContaining(['README.md', 'bundle.json', 'records/run.json', 'records/metrics.csv', 'records/log.jsonl', 'records/lineage.json', `checkpoints/${json.checkpointId}/model.safetensors`]))
  expect(readFileSync(join(bundle, 'README.md'), 'utf8')).toMatch(/# Released[\s\S]*Imported from .*own[\s\S]*8 per layer, 2 for each token/)
  expect((await moe('e', ['import', join(folder, 'bundle')])).json).toMatchObject({ error: { code: 'bundle.alreadyThere' } })

  const { json: back } = await moe<ImportResult>('f', ['import', join(folder, 'bundle')])
  expect(back).toMatchObject({ checkpointId: json.checkpointId, runId: json.runId })
  const at = (library: string): string => join(folder, library, 'checkpoints', json.checkpointId)
  expect(readdirSync(at('f')).sort()).toEqual(readdirSync(at('e')).sort())
  for (const name of readdirSync(at('e'))) expect(readFileSync(join(at('f'), name)).equals(readFileSync(join(at('e'), name))), name).toBe(true)
  expect((await moe<Run[]>('f', ['runs'])).json).toMatchObject([{ name: 'Released', status: 'done' }])

  appendFileSync(join(bundle, 'extra.txt'), 'x')
  await expect(verifyBundle(bundle)).rejects.toThrow(/extra.txt: is not in bundle.json/)
  rmSync(join(bundle, 'extra.txt'))
  const weights = join(bundle, 'checkpoints', json.checkpointId, 'model.safetensors')
  const bytes = readFileSync(weights)
  bytes[bytes.length - 1]! ^= 1
  writeFileSync(weights, bytes)
  expect((await moe('g', ['import', join(folder, 'bundle')])).json).toMatchObject({ error: { code: 'bundle.damaged' } })
  expect(readdirSync(join(folder, 'g', 'checkpoints'))).toEqual([])
}, 30_000)

test('an import that is stopped or does not fit leaves nothing', async () => {
  const checkpoints = mkdtempSync(join(folder, 'checkpoints-'))
  const stop = (phase: string): never | void => {
    if (phase === 'weights') throw new Error('stopped')
  }
  await expect(importModel(model, 'q4', identity, checkpoints, stop)).rejects.toThrow('stopped')
  await expect(importModel(model, 'keep', identity, checkpoints, stop)).rejects.toThrow('stopped')
  rmSync(join(model, '..', 'partial'), { recursive: true, force: true })
  const other = join(folder, 'other')
  await writeSmallModel(other, { ...smallConfig, num_hidden_layers: 3 })
  writeFileSync(join(other, 'config.json'), readFileSync(join(other, 'config.json'), 'utf8').replace('"num_hidden_layers":3', '"num_hidden_layers":4'))
  await expect(importModel(other, 'keep', identity, checkpoints)).rejects.toThrow(/model.layers.3.input_layernorm.weight is missing/)
  rmSync(join(other, 'tokenizer.json'))
  writeFileSync(join(other, 'config.json'), readFileSync(join(model, 'config.json'), 'utf8'))
  await expect(importModel(other, 'keep', identity, checkpoints)).rejects.toMatchObject({ code: 'model.noTokenizer' })
  expect(readdirSync(checkpoints)).toEqual([])
  expect(existsSync(join(checkpoints, 'c1'))).toBe(false)
})
