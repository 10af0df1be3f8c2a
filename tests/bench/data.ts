/**
 * Rows of the benchmark on data: our tokenizer and trainer (train-tokenizer.ts) beside Hugging Face's Rust ones on the sample texts, in
 * the same run, on as many threads as they, with the check that ids and merges are the same; and the loader beside a training step.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Tokenizer as RustTokenizer } from 'tokenizers'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createTrainingOrder } from '#core/data/batches.ts'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { buildMix, planMix, stratifiedTexts } from '#core/data/mix.ts'
import { openSample } from '#core/data/sample.ts'
import { openInstances } from '#core/data/shards.ts'
import { createTokenizer, serializeTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { median } from './measure.ts'
import { openStepper } from './step.ts'
import { trainRows } from './train-tokenizer.ts'

export type DataRow = { name: string; value: number; unit: string; peer: string; ratio: number | null; spread: [number, number] }

const rounds = 5
const pieceLength = 2000

async function timed(work: () => unknown): Promise<number> {
  const startedAt = performance.now()
  await work()
  return (performance.now() - startedAt) / 1000
}

function rowOf(name: string, unit: string, rates: number[], peer: string, ratio: number | null): DataRow {
  return { name, value: median(rates), unit, peer, ratio, spread: [Math.min(...rates), Math.max(...rates)] }
}

/** Rust's parallelism is read at every call. */
const rustThreads = (all: boolean): void => void (process.env.TOKENIZERS_PARALLELISM = String(all))

/** Encodes on all cores, each thread an equal part of the pieces. */
function encodeInThreads(tokenizer: Tokenizer, pieces: string[]): { run(): Promise<number>; close(): Promise<unknown> } {
  const count = availableParallelism()
  const workers = Array.from({ length: count }, (_, i) => new Worker(join(import.meta.dirname, 'encode-worker.ts'), { workerData: { json: tokenizer.json, pieces: pieces.filter((_piece, k) => k % count === i) } }))
  return {
    run: () => timed(() => Promise.all(workers.map((worker) => {
      const answered = once(worker, 'message')
      worker.postMessage('go')
      return answered
    }))),
    close: () => Promise.all(workers.map((worker) => worker.terminate())),
  }
}

async function requireSameIds(tokenizer: Tokenizer, rust: RustTokenizer, pieces: string[]): Promise<void> {
  for (const [i, encoding] of (await rust.encodeBatch(pieces)).entries()) {
    const [expected, found] = [encoding.getIds(), tokenizer.encode(pieces[i]!, { special: 'text' })]
    if (expected.length !== found.length || expected.some((id, k) => id !== found[k])) throw new Error(`piece ${i}: the ids differ`)
  }
}

async function encodeRows(tokenizer: Tokenizer, pieces: string[], sizeBytes: number): Promise<DataRow[]> {
  const rust = RustTokenizer.fromString(serializeTokenizer(tokenizer))
  await requireSameIds(tokenizer, rust, pieces)
  const threads = encodeInThreads(tokenizer, pieces)
  await threads.run()
  const rates = { ours: [] as number[], oursAll: [] as number[], theirs: [] as number[], theirsAll: [] as number[] }
  const rate = async (seconds: Promise<number>): Promise<number> => sizeBytes / 1e6 / (await seconds)
  for (let round = 0; round < rounds; round++) {
    // A new one each time: its cache of words is part of what is measured.
    const cold = createTokenizer(tokenizer.json)
    rates.ours.push(await rate(timed(() => pieces.map((piece) => cold.encode(piece, { special: 'text' })))))
    rustThreads(false)
    rates.theirs.push(await rate(timed(() => rust.encodeBatch(pieces))))
    rates.oursAll.push(await rate(threads.run()))
    rustThreads(true)
    rates.theirsAll.push(await rate(timed(() => rust.encodeBatch(pieces))))
  }
  await threads.close()
  const row = (name: string, ours: number[], theirs: number[]): DataRow => rowOf(name, 'MB/s', ours, `Rust tokenizers on as many (${median(theirs).toFixed(1)} MB/s), same ids`, median(ours) / median(theirs))
  return [row('tokenize, 1 thread', rates.ours, rates.theirs), row(`tokenize, ${availableParallelism()} threads`, rates.oursAll, rates.theirsAll)]
}

async function trainOn(texts: string[]): Promise<DataRow[]> {
  const folder = mkdtempSync(join(tmpdir(), 'moe-bench-'))
  try {
    writeFileSync(join(folder, 'texts.txt'), texts.join(''))
    return await trainRows(join(folder, 'texts.txt'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function loaderRow(sample: ReturnType<typeof openSample>, tokenizer: Tokenizer): Promise<DataRow> {
  const folder = mkdtempSync(join(tmpdir(), 'moe-bench-'))
  try {
    const manifest = await buildMix(await planMix('bench', sample.sources.slice(0, 2), tokenizer), folder)
    const [batch, length, steps] = [8, 512, 50]
    const instances = openInstances(folder, manifest, 'train', length)
    const order = createTrainingOrder(instances, 1)
    order.batchAt(0, batch)
    const times: number[] = []
    for (let step = 1; step <= steps; step++) times.push(1000 * (await timed(() => order.batchAt(step * batch, batch))))
    instances.close()
    const backend = createCpuBackend({ precision: 'mixed' })
    const stepper = await openStepper(backend, 'small')
    await stepper.step()
    const stepMs = 1000 * median([await stepper.step(), await stepper.step(), await stepper.step()])
    await backend.close()
    return rowOf(`loader, ${batch} × ${length} tokens`, 'ms', times, `the small model's step of as many (${stepMs.toFixed(0)} ms)`, median(times) / stepMs)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Measures all rows on about `megabytes` of the sample. */
export async function benchData(megabytes = 4): Promise<DataRow[]> {
  const sample = openSample(join(import.meta.dirname, '../../resources/sample/data'))
  const total = sample.index.domains.reduce((sum, { bytes }) => sum + bytes, 0)
  const texts: string[] = []
  for await (const text of stratifiedTexts(sample.sources, total, megabytes * 1e6)) texts.push(text.toWellFormed())
  const pieces = texts.flatMap((text) => Array.from({ length: Math.ceil(text.length / pieceLength) }, (_, i) => text.slice(i * pieceLength, (i + 1) * pieceLength).toWellFormed()))
  const bytesOf = (parts: string[]): number => parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0)
  const tokenizer = await trainTokenizer(texts, { vocabularySize: 16_384 })
  return [...(await encodeRows(tokenizer, pieces, bytesOf(pieces))), ...(await trainOn(texts)), await loaderRow(sample, tokenizer)]
}
