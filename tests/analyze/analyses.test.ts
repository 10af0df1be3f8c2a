/** Analyses through the whole product on a model trained here: the core's job, its cache, its stop; the text router; and `moe analyze`. */
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCli } from '#core/cli.ts'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import type { Analysis, AnalysisSpec } from '#core/shared/analyses.ts'
import { makeTinyLibrary, tinyConfig } from '../runs/tiny-library.ts'

const library = makeTinyLibrary()
let core: Core
let checkpoints: string[]
let mixId: string

async function ended(id: string): Promise<Analysis> {
  for (;;) {
    const analysis = await core.client.analyses.get({ id })
    if (analysis.status !== 'running') return analysis
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}

beforeAll(async () => {
  core = await startCore({ ...nodeHost({ kind: 'test', libraryPath: library.libraryPath }), resourcesPath: library.resourcesPath })
  const { id } = await core.client.runs.create({ config: tinyConfig({ steps: 60, checkpointEverySteps: 30 }) })
  let run = await core.client.runs.get({ id })
  while (['queued', 'running'].includes(run.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50))
    run = await core.client.runs.get({ id })
  }
  expect(run).toMatchObject({ status: 'done', error: null })
  mixId = run.mixId!
  checkpoints = (await core.client.checkpoints.list({ runId: id })).map((checkpoint) => checkpoint.id)
})
afterAll(() => core.close())

const spec = (change: Partial<AnalysisSpec> = {}): AnalysisSpec => ({ kind: 'routing', checkpointId: checkpoints[0]!, against: [checkpoints[1]!], sequenceLength: 32, data: { kind: 'mix', mixId, split: 'validation', domains: null, tokensPerDomain: 2000 }, ...change })

test('an analysis is computed once, kept, and read back', async () => {
  const started = await core.client.analyses.create({ spec: spec() })
  const done = await ended(started.id)
  expect(done).toMatchObject({ status: 'done', error: null })
  const counters = await core.client.analyses.counters({ id: done.id })
  expect(counters.domains.map(({ name }) => name)).toEqual(['animals', 'numbers'])
  expect(counters.tokens).toBe(done.tokens)
  expect(counters.saturation[0]!.topK[0]).toBeGreaterThan(0.25)
  expect((await core.client.analyses.create({ spec: spec() })).id).toBe(done.id)
  const expert = await core.client.analyses.expert({ id: done.id, layer: 1, expert: 0 })
  expect(expert.sample.length).toBe(Math.min(6, counters.domains.reduce((sum, { top1 }) => sum + top1[8]!, 0)))
  await expect(core.client.analyses.expert({ id: done.id, layer: 1, expert: 99 })).rejects.toMatchObject({ code: 'analyze.noSuchExpert' })
  await core.client.analyses.remove({ id: done.id })
  expect(existsSync(join(library.libraryPath, 'analyses', done.id))).toBe(false)
})

test('an ablation can be stopped, and leaves nothing; a text and a failure are told', async () => {
  const started = await core.client.analyses.create({ spec: spec({ kind: 'ablation', against: [], data: { kind: 'mix', mixId, split: 'train', domains: ['numbers'], tokensPerDomain: 200_000 } }) })
  await core.client.analyses.stop({ id: started.id })
  expect((await ended(started.id)).status).toBe('stopped')
  expect(existsSync(join(library.libraryPath, 'analyses', started.id))).toBe(false)
  const text = await core.client.analyses.create({ spec: spec({ kind: 'ablation', against: [], data: { kind: 'text', text: 'The cat sees the dog. The dog follows the horse.' } }) })
  expect(await ended(text.id)).toMatchObject({ status: 'done' })
  expect((await core.client.analyses.ablation({ id: text.id })).domains[0]!.increase).toHaveLength(16)
  const failing = await core.client.analyses.create({ spec: spec({ data: { kind: 'mix', mixId, split: 'train', domains: ['poems'], tokensPerDomain: 100 } }) })
  expect(await ended(failing.id)).toMatchObject({ status: 'failed', error: { code: 'analyze.noDomain' } })
})

test('a text is routed as it is and under an intervention', async () => {
  const { plain, changed } = await core.client.analyses.route({ checkpointId: checkpoints[0]!, text: 'The cat sees', intervention: { off: [{ layer: 0, expert: 0 }], force: [], topK: null }, continueTokens: 5 })
  expect(plain.tokens.map(({ text }) => text).join('')).toBe('The cat sees')
  expect(changed!.tokens.some(({ layers }) => layers[0]!.experts.includes(0))).toBe(false)
  expect(plain.continuation.length).toBeGreaterThan(0)
})

test('moe analyze writes counters, figures and a report that stands alone', async () => {
  const out = join(mkdtempSync(join(tmpdir(), 'moe-analyze-')), 'out')
  expect(await runCli(['analyze', '--model', checkpoints[0]!, '--against', checkpoints[1]!, '--data', mixId, '--tokens', '1000', '--sequence', '32', '--out', out, '--library', library.libraryPath, '--json'])).toBe(0)
  const figures = readdirSync(join(out, 'figures'))
  expect(figures.filter((name) => name.endsWith('.svg')).length).toBe(figures.filter((name) => name.endsWith('.csv')).length)
  const report = readFileSync(join(out, 'report.html'), 'utf8')
  expect(report.match(/<figure>/g)!.length).toBe(figures.length / 2)
  expect(report).not.toMatch(/NaN|undefined|<script|https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
  expect(existsSync(join(out, 'counters', 'counters.json'))).toBe(true)
})
