/**
 * Builds a mix from sources of files: tokenize (threads, resumable by shard), select (duplicates, split, contamination), write. Same
 * files, tokenizer and settings give the same bytes and hash, whatever the threads and however often it was interrupted. The caller gives
 * a work folder that outlives an interruption, and publishes the mix as a whole.
 */
import { createHash } from 'node:crypto'
import { statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { ComparedTask, FilterSettings } from '#core/shared/filters.ts'
import { planShares } from '#core/shared/mix-shares.ts'
import type { MixSpec, SourceOutcome } from '#core/shared/mixes.ts'
import { indexFile, mixHashOf, mixIdOf, tokenFile, verifyMix, type ManifestDomain, type MixManifest } from '../mix-manifest.ts'
import { createPause, type Pause } from '../pause.ts'
import type { FileSource } from '../readers/source.ts'
import { createHashedFile, createTokenWriter, tokenBytesFor, type FileRecord, type HashedFile, type TokenWriter } from '../token-writer.ts'
import { serializeTokenizer, type Tokenizer } from '../tokenizer.ts'
import { fate, selectDocuments, type Selection } from './select.ts'
import { usualThreads } from './shard-pool.ts'
import { openShards } from './shard.ts'
import { tokenizeSources, type BuildOptions, type ReadSource } from './tokenize.ts'

/** Raise it when the same inputs would give other bytes. */
const buildVersion = 3

/** `evaluationTexts` holds the items of `comparedTasks` too; those are named in the manifest. */
export type BuildInput = { spec: MixSpec; sources: FileSource[]; tokenizer: Tokenizer; evaluationTexts: string[]; comparedTasks?: ComparedTask[] }

/** Names the work folder of a build: what it reads (by size and time) and how; the mix's id is of the contents. */
export function buildKey({ spec, sources, tokenizer }: Pick<BuildInput, 'spec' | 'sources' | 'tokenizer'>): string {
  const files = sources.map(({ name, mapping, spec: { skipBadRows }, found }) => [name, mapping, skipBadRows, found.files.map(({ name: file, format, sizeBytes, modifiedMs }) => [file, format, sizeBytes, modifiedMs])])
  // What decides a shard; dropping, splitting and shares can change without making them again.
  const { length, repeats, stars, words, near } = spec.filters
  return createHash('sha256').update(JSON.stringify([buildVersion, tokenizer.hash, length, repeats, stars, words, near, files])).digest('hex').slice(0, 16)
}

/** Bytes that a build of so much text needs beside the sources, about: token shards of four bytes, then the token files, at three bytes of text per token. */
export function neededBytes(textBytes: number, tokenBytes: 2 | 4, filters: FilterSettings): number {
  return Math.ceil((textBytes / 3) * (4 + tokenBytes) + (filters.near ? textBytes / 4 : 0)) + (16 << 20)
}

/** Throws disk.tooSmall when `folder`'s disk has less than the build needs. */
export function requireDiskSpace(folder: string, needed: number): void {
  const { bavail, bsize } = statfsSync(folder)
  const free = bavail * bsize
  if (free >= needed) return
  const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`
  throw new AppError('disk.tooSmall', `${folder}: found ${mebibytes(free)} of free space, expected about ${mebibytes(needed)} for this build`, { params: { file: folder, freeBytes: free, neededBytes: needed }, hint: 'Free some space, take fewer sources, or put the library on another disk.' })
}

type Written = { domain: ManifestDomain; files: Record<string, FileRecord> }

type DomainWriters = { train: TokenWriter; validation: TokenWriter; index: HashedFile }

/** Opens the files of a domain for `write`; when that fails they are closed, as an open file keeps its space and a full disk may be what ended it. */
async function withWriters<R>(folder: string, paths: Record<keyof DomainWriters, string>, tokenBytes: 2 | 4, write: (writers: DomainWriters) => Promise<R>): Promise<R> {
  const writers = { train: createTokenWriter(join(folder, paths.train), tokenBytes), validation: createTokenWriter(join(folder, paths.validation), tokenBytes), index: createHashedFile(join(folder, paths.index)) }
  try {
    return await write(writers)
  } catch (error) {
    for (const writer of Object.values(writers)) writer.discard()
    throw error
  }
}

/** Copies a source's kept documents out of its shards, in order. */
async function writeDomain({ source, shards, documents, fingerprint }: ReadSource, work: string, folder: string, fates: Selection['fates'], eosId: number, tokenBytes: 2 | 4, pause: Pause, onBytes: (bytes: number) => void): Promise<Written & { kept: number; tokens: number; documents: number }> {
  const { name, licence } = source
  const paths = { train: tokenFile(name, 'train'), validation: tokenFile(name, 'validation'), index: indexFile(name) }
  return withWriters(folder, paths, tokenBytes, async ({ index, ...writers }) => {
    let [kept, held, bytes, words, tokens] = [0, 0, 0, 0, 0]
    for (const shard of openShards(work, shards)) {
      const marks = fates.get(shard.name)!
      for (const [i, document] of shard.documents.entries()) {
        tokens += document.tokens
        onBytes(document.bytes)
        if (marks[i] === fate.dropped) continue
        const split = marks[i] === fate.validation ? 'validation' : 'train'
        const start = writers[split].tokens
        writers[split].write(shard.idsOf(document))
        writers[split].write([eosId])
        index.write(Buffer.from(`${JSON.stringify({ id: document.id, split, start, tokens: document.tokens + 1, hash: document.hash })}\n`))
        kept++
        bytes += document.bytes
        words += document.words
        if (split === 'validation') held++
        await pause()
      }
    }
    const counts = { trainTokens: writers.train.tokens, validationTokens: writers.validation.tokens }
    const files = { [paths.train]: writers.train.close(), [paths.validation]: writers.validation.close(), [paths.index]: index.close() }
    return { domain: { name, licence, fingerprint, documents: kept, bytes, words, validationDocuments: held, ...counts }, files, kept, tokens, documents }
  })
}

/** Reads, tokenizes and selects; then `publish` gives the mix's id and a function that fills an empty folder with it. */
export async function prepareBuild(input: BuildInput, work: string, options: BuildOptions): Promise<{ id: string; fill(folder: string): Promise<MixManifest> }> {
  const { spec, sources, tokenizer, evaluationTexts } = input
  const { eosId } = tokenizer
  if (eosId === null) throw new AppError('mix.noEos', 'the tokenizer has no <|endoftext|> token to end documents with', { hint: 'Train a tokenizer on the sources, or load one that has it.' })
  const pause = createPause(options.signal)
  const read = await tokenizeSources(sources, tokenizer, spec.filters, work, options)
  const onProgress = options.onProgress ?? (() => undefined)
  const selection = await selectDocuments({ read, folder: work, tokenizer, filters: spec.filters, split: spec.heldOut, threads: options.threads ?? usualThreads(), pause, onProgress }, evaluationTexts)
  const evaluation = createHash('sha256').update(JSON.stringify([evaluationTexts, (input.comparedTasks ?? []).map(({ task, sha256 }) => [task, sha256])])).digest('hex')
  const contents = read.map(({ source, fingerprint }) => [source.name, source.licence, source.isCode, fingerprint])
  const id = mixIdOf(spec.name, [buildVersion, tokenizer.hash, spec.filters, spec.heldOut, spec.shares, spec.maxEpochs, spec.totalTokens, evaluation, contents])
  return { id, fill: (folder) => fillMix(id, input, eosId, read, selection, work, folder, pause, onProgress) }
}

async function fillMix(id: string, { spec, tokenizer, comparedTasks = [] }: BuildInput, eosId: number, read: readonly ReadSource[], selection: Selection, work: string, folder: string, pause: Pause, onProgress: NonNullable<BuildOptions['onProgress']>): Promise<MixManifest> {
  const { vocabularySize, hash: tokenizerHash } = tokenizer
  const tokenBytes = tokenBytesFor(vocabularySize)
  const total = read.reduce((sum, { bytes }) => sum + bytes, 0)
  let [done, shown] = [0, 0]
  const onBytes = (bytes: number): void => {
    done += bytes
    if (done - shown < total / 200 && done < total) return
    shown = done
    onProgress('write', done, total, 'bytes')
  }
  const written = []
  for (const one of read) written.push(await writeDomain(one, work, folder, selection.fates, eosId, tokenBytes, pause, onBytes))
  const empty = written.find(({ domain }) => domain.trainTokens === 0)
  if (empty) throw new AppError('mix.empty', `source ${empty.domain.name}: found ${empty.documents} documents, of which the filters left none, expected at least one`, { params: { source: empty.domain.name, found: empty.documents }, hint: 'Loosen the filters, or take the source out of the mix.' })
  const rows = planShares(written.map(({ domain }) => ({ name: domain.name, available: domain.trainTokens })), spec.shares, spec)
  const isNatural = rows.every(({ epochs }) => Math.abs(epochs - 1) < 1e-9)
  const domains = written.map(({ domain }, i): ManifestDomain => (isNatural ? domain : { ...domain, epochs: rows[i]!.epochs }))
  const outcomes = written.map(({ domain, documents, tokens, kept }, i): SourceOutcome => {
    const { share, epochs, warning } = rows[i]!
    return { name: domain.name, documents, tokens, kept, dropped: selection.dropped[i]!, badRows: read[i]!.badRows, share, epochs, warning }
  })
  const tokenizerFile = createHashedFile(join(folder, 'tokenizer.json'))
  tokenizerFile.write(Buffer.from(serializeTokenizer(tokenizer)))
  const files: Record<string, FileRecord> = { ...Object.assign({}, ...written.map((one) => one.files)) as Record<string, FileRecord>, 'tokenizer.json': tokenizerFile.close() }
  const content = { tokenizerHash, vocabularySize, tokenBytes, eosId, domains, files }
  const manifest: MixManifest = { format: 'moe-workbench-mix', version: 1, id, hash: mixHashOf(content), ...content, outcomes, ...(comparedTasks.length > 0 && { comparedTasks }) }
  writeFileSync(join(folder, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`, { flag: 'wx' })
  onProgress('verify', 0, null, '')
  return verifyMix(folder)
}
