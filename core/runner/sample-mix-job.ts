/**
 * The built-in mix: sample data (fetched when missing), a tokenizer trained on an even share of every domain, token files.
 * Each part is found again when it is there, so an interrupted job loses little.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import type { BuildProgress } from '#core/data/build/tokenize.ts'
import { mixRow, verifyMix, type MixManifest } from '#core/data/mix-manifest.ts'
import { buildMix, planMix, stratifiedTexts, type MixProgress } from '#core/data/mix.ts'
import { openSample, type Sample } from '#core/data/sample.ts'
import { defaultSpecialTokens, loadTokenizer, serializeTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Job } from '#core/shared/jobs.ts'
import type { JobContext } from './context.ts'
import { phaseSender, Stopped, untilStopped } from './progress.ts'

type SampleMixJob = Extract<Job, { kind: 'sampleMix' }>

const tokenizerBytes = 4_000_000

/** Fetches the sample data with its own script, which says what it does line by line. */
export async function fetchSample(resources: string, context: JobContext): Promise<void> {
  const child = spawn(process.execPath, [join(resources, 'sample/fetch.ts')], { stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      context.log('info', line)
    })
  }
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve).on('error', () => resolve(1)))
  if (code !== 0) {
    throw new AppError('sample.unavailable', `the sample data could not be fetched: ${lines.at(-1) ?? 'no output'}`, { params: { found: lines.at(-1) ?? '' }, hint: 'Check the network connection and try again; what was fetched is kept.' })
  }
}

/** The tokenizer of the sample: found in the library, or trained on an even cut through every domain. */
async function sampleTokenizer({ index, sources }: Sample, job: SampleMixJob, onProgress: (done: number, total: number) => void): Promise<Tokenizer> {
  const folder = join(job.paths.library, 'tokenizers', `sample-${job.vocabularySize}-${index.recipe.slice(0, 12)}`)
  const path = join(folder, 'tokenizer.json')
  if (existsSync(path)) return loadTokenizer(path)
  const totalBytes = index.domains.reduce((sum, { bytes }) => sum + bytes, 0)
  const texts = stratifiedTexts(sources, totalBytes, tokenizerBytes)
  const tokenizer = await trainTokenizer(texts, { vocabularySize: job.vocabularySize, specialTokens: defaultSpecialTokens, onProgress })
  mkdirSync(folder, { recursive: true })
  await writeFileAtomic(path, [serializeTokenizer(tokenizer)])
  return tokenizer
}

/** The mix of the sample under `tokenizer`: found built, or built. */
async function sampleMix({ sources }: Sample, tokenizer: Tokenizer, mixesFolder: string, onProgress: MixProgress): Promise<MixManifest> {
  const plan = await planMix('sample', sources, tokenizer)
  const folder = join(mixesFolder, plan.id)
  if (existsSync(folder)) return verifyMix(folder)
  mkdirSync(mixesFolder, { recursive: true })
  return writeFolderAtomic(folder, (temporary) => buildMix(plan, temporary, { onProgress }))
}

export async function runSampleMixJob(job: SampleMixJob, context: JobContext): Promise<'done' | 'stopped'> {
  const send = phaseSender(context)
  const phase: BuildProgress = (...progress) => {
    if (context.stopRequest() !== 'none') throw new Stopped('stopped')
    send(...progress)
  }
  return untilStopped(async () => {
    const sampleFolder = join(job.paths.resources, 'sample/data')
    phase('sample', 0, null, '')
    if (!existsSync(join(sampleFolder, 'sample.json'))) await fetchSample(job.paths.resources, context)
    const sample = openSample(sampleFolder)
    const tokenizer = await sampleTokenizer(sample, job, (done, total) => phase('tokenizer', done, total, 'merges'))
    const manifest = await sampleMix(sample, tokenizer, join(job.paths.library, 'mixes'), (done, total) => phase('mix', done, total, 'documents'))
    context.send({ type: 'mix', mix: mixRow(manifest, 'sample', Date.now()) })
  })
}
