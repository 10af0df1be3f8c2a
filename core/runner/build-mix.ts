/**
 * From the description of a mix to a mix of the library: opens its sources, takes or trains its tokenizer, builds in a work folder that
 * outlives an interruption, and publishes the result as a whole. A mix that is there already is verified and taken.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { buildKey, neededBytes, prepareBuild, requireDiskSpace } from '#core/data/build/build.ts'
import type { BuildOptions, BuildProgress } from '#core/data/build/tokenize.ts'
import { verifyMix, type MixManifest } from '#core/data/mix-manifest.ts'
import { stratifiedTexts } from '#core/data/mix.ts'
import { baseOf, expectedTextBytes } from '#core/data/readers/files.ts'
import { openSource, type FileSource } from '#core/data/readers/source.ts'
import { tokenBytesFor } from '#core/data/token-writer.ts'
import { loadTokenizer, serializeTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { asDiskError, writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import type { JobPaths } from '#core/shared/jobs.ts'
import type { MixSpec } from '#core/shared/mixes.ts'
import { readEvaluationTexts } from './evaluation-texts.ts'

/** Text that a tokenizer of a mix is trained on where nothing else is asked for, cut evenly out of all sources. */
const tokenizerBytes = 20_000_000

/** About `budgetBytes` of each source, spread over all of it. */
async function* sampleTexts(sources: readonly FileSource[], budgetOf: (expectedBytes: number) => number): AsyncGenerator<string> {
  for (const { name, licence, found, documents } of sources) {
    const expected = expectedTextBytes(found.files)
    const budget = budgetOf(expected)
    let given = 0
    for await (const text of stratifiedTexts([{ name, licence, documents: () => documents() }], expected, budget)) {
      yield text
      given += text.length
      // There is more text in the files than their size told.
      if (given >= budget) break
    }
  }
}

/** Trains on `sampleBytes` of each source; null: on an even cut through all of them. */
export async function trainOnSources(sources: readonly FileSource[], { vocabularySize, sampleBytes }: Pick<MixSpec, 'vocabularySize' | 'sampleBytes'>, onProgress: BuildProgress): Promise<Tokenizer> {
  const total = expectedTextBytes(sources.flatMap(({ found }) => found.files))
  const texts = sampleTexts(sources, (expected) => sampleBytes ?? tokenizerBytes * (expected / Math.max(1, total)))
  return trainTokenizer(texts, { vocabularySize, onProgress: (done, merges) => onProgress('tokenizer', done, merges, 'merges') })
}

async function tokenizerOf(spec: MixSpec, base: string, sources: readonly FileSource[], work: string, onProgress: BuildProgress): Promise<Tokenizer> {
  if (spec.tokenizer !== null) return loadTokenizer(resolve(base, spec.tokenizer))
  // A build that goes on goes on with the tokenizer that it trained.
  const files = sources.flatMap(({ found }) => found.files.map(({ name, sizeBytes, modifiedMs }) => `${name} ${sizeBytes} ${modifiedMs}`))
  const path = join(work, 'tokenizer.json')
  const stamp = join(work, 'tokenizer.of')
  const of = JSON.stringify([spec.vocabularySize, spec.sampleBytes, files, sources.map(({ mapping }) => mapping)])
  if (existsSync(path) && existsSync(stamp) && readFileSync(stamp, 'utf8') === of) return loadTokenizer(path)
  onProgress('tokenizer', 0, null, 'merges')
  const tokenizer = await trainOnSources(sources, spec, onProgress)
  mkdirSync(work, { recursive: true })
  await writeFileAtomic(path, [serializeTokenizer(tokenizer)])
  await writeFileAtomic(stamp, [of])
  return tokenizer
}

/** Builds the mix into the library; `textBytes` where the size of all text is known. A full disk is said as such, and what is finished kept. Paths in `spec` are relative to `base`; null: all are absolute, and names in each source start at its own folder. */
export async function buildMixOf(spec: MixSpec, base: string | null, paths: JobPaths, options: BuildOptions & { textBytes?: number | null }): Promise<MixManifest> {
  try {
    return await buildInto(paths.library, spec, base, paths, options)
  } catch (error) {
    throw asDiskError(error, paths.library)
  }
}

async function buildInto(library: string, spec: MixSpec, base: string | null, paths: JobPaths, options: BuildOptions & { textBytes?: number | null }): Promise<MixManifest> {
  const onProgress = options.onProgress ?? (() => undefined)
  const [mixes, builds] = [join(library, 'mixes'), join(library, 'builds')]
  for (const folder of [mixes, builds]) mkdirSync(folder, { recursive: true })
  const sources = []
  for (const source of spec.sources) sources.push((await openSource(source, base ?? baseOf(source.paths))).source)
  const evaluation = readEvaluationTexts(spec.filters, base ?? '/', paths)
  requireDiskSpace(library, neededBytes(options.textBytes ?? expectedTextBytes(sources.flatMap(({ found }) => found.files)), tokenBytesFor(spec.vocabularySize), spec.filters))
  const tokenizer = await tokenizerOf(spec, base ?? '/', sources, join(builds, spec.name), onProgress)
  const input = { spec, sources, tokenizer, ...evaluation }
  const work = join(builds, buildKey(input))
  const { id, fill } = await prepareBuild(input, work, options)
  const folder = join(mixes, id)
  const manifest = existsSync(folder) ? await verifyMix(folder) : await writeFolderAtomic(folder, fill)
  rmSync(work, { recursive: true, force: true })
  rmSync(join(builds, spec.name), { recursive: true, force: true })
  return manifest
}
