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
import { baseOf } from '#core/data/readers/files.ts'
import { openSource, type FileSource } from '#core/data/readers/source.ts'
import { tokenBytesFor } from '#core/data/token-writer.ts'
import { loadTokenizer, serializeTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import { AppError } from '#core/shared/errors.ts'
import type { MixSpec } from '#core/shared/mixes.ts'

/** Text that a tokenizer of a mix is trained on, cut evenly out of all sources. */
const tokenizerBytes = 20_000_000

/** A text that training must not share words with. Throws file.unreadable. */
export function readEvaluationText(base: string, file: string): string {
  const path = resolve(base, file)
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new AppError('file.unreadable', `filters.contamination.texts: ${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  }
}

/** Trains on an even cut through the sources; `sizeBytes` on disk stands for the text's size. */
export async function trainOnSources(sources: readonly FileSource[], vocabularySize: number, onProgress: BuildProgress): Promise<Tokenizer> {
  const sizeBytes = sources.flatMap(({ found }) => found.files).reduce((sum, file) => sum + file.sizeBytes * (file.compression === 'none' ? 1 : 4), 0)
  const texts = stratifiedTexts(sources.map((source) => ({ name: source.name, licence: source.licence, documents: () => source.documents() })), sizeBytes, tokenizerBytes)
  return trainTokenizer(texts, { vocabularySize, onProgress: (done, total) => onProgress('tokenizer', done, total, 'merges') })
}

async function tokenizerOf(spec: MixSpec, base: string, sources: readonly FileSource[], work: string, onProgress: BuildProgress): Promise<Tokenizer> {
  if (spec.tokenizer !== null) return loadTokenizer(resolve(base, spec.tokenizer))
  // A build that goes on goes on with the tokenizer that it trained.
  const files = sources.flatMap(({ found }) => found.files.map(({ name, sizeBytes, modifiedMs }) => `${name} ${sizeBytes} ${modifiedMs}`))
  const path = join(work, 'tokenizer.json')
  const stamp = join(work, 'tokenizer.of')
  const of = JSON.stringify([spec.vocabularySize, files, sources.map(({ mapping }) => mapping)])
  if (existsSync(path) && existsSync(stamp) && readFileSync(stamp, 'utf8') === of) return loadTokenizer(path)
  onProgress('tokenizer', 0, null, 'merges')
  const tokenizer = await trainOnSources(sources, spec.vocabularySize, onProgress)
  mkdirSync(work, { recursive: true })
  await writeFileAtomic(path, [serializeTokenizer(tokenizer)])
  await writeFileAtomic(stamp, [of])
  return tokenizer
}

/** Builds the mix into `library`. Paths in `spec` are relative to `base`; null: all are absolute, and names in each source start at its own folder. */
export async function buildMixOf(spec: MixSpec, base: string | null, library: string, options: BuildOptions): Promise<MixManifest> {
  const onProgress = options.onProgress ?? (() => undefined)
  const [mixes, builds] = [join(library, 'mixes'), join(library, 'builds')]
  for (const folder of [mixes, builds]) mkdirSync(folder, { recursive: true })
  const sources = []
  for (const source of spec.sources) sources.push((await openSource(source, base ?? baseOf(source.paths))).source)
  const evaluationTexts = (spec.filters.contamination?.texts ?? []).map((file) => readEvaluationText(base ?? '/', file))
  requireDiskSpace(library, neededBytes(sources, tokenBytesFor(spec.vocabularySize), spec.filters))
  const tokenizer = await tokenizerOf(spec, base ?? '/', sources, join(builds, spec.name), onProgress)
  const input = { spec, sources, tokenizer, evaluationTexts }
  const work = join(builds, buildKey(input))
  const { id, fill } = await prepareBuild(input, work, options)
  const folder = join(mixes, id)
  const manifest = existsSync(folder) ? await verifyMix(folder) : await writeFolderAtomic(folder, fill)
  rmSync(work, { recursive: true, force: true })
  rmSync(join(builds, spec.name), { recursive: true, force: true })
  return manifest
}
