/**
 * Builds a mix: scans every source (size, fingerprint, split), then tokenizes its documents into the token files of its two splits.
 * It writes into a folder that the caller publishes as a whole, holds one document at a time, and lets other work of the process run
 * between documents. Same sources and tokenizer, same bytes.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { Source } from './documents.ts'
import { countWords } from './filters/words.ts'
import { indexFile, mixHashOf, mixIdOf, tokenFile, verifyMix, type ManifestDomain, type MixManifest } from './mix-manifest.ts'
import { createPause, type Pause } from './pause.ts'
import { defaultSplit, documentHash, scanDomain, type DomainScan, type SplitOptions } from './split.ts'
import { createHashedFile, createTokenWriter, tokenBytesFor, type FileRecord } from './token-writer.ts'
import { serializeTokenizer, type Tokenizer } from './tokenizer.ts'

/** Raise it when the same inputs would give other bytes. */
const buildVersion = 2

export type MixPlan = { id: string; tokenizer: Tokenizer; eosId: number; sources: { source: Source; scan: DomainScan }[] }

/** Documents so far of all documents. */
export type MixProgress = (done: number, total: number) => void

/** Reads every source once and settles what the mix will be; its id says whether it is built already. Throws AppError `mix.empty` or `mix.noEos`. */
export async function planMix(stem: string, sources: readonly Source[], tokenizer: Tokenizer, split: SplitOptions = defaultSplit): Promise<MixPlan> {
  const { eosId } = tokenizer
  if (eosId === null) {
    throw new AppError('mix.noEos', 'the tokenizer has no <|endoftext|> token to end documents with', { hint: 'Train a tokenizer on the sources, or load one that has it.' })
  }
  const scanned = []
  for (const source of sources) {
    const scan = await scanDomain(source.documents(), split)
    if (scan.documents === 0) throw new AppError('mix.empty', `source ${source.name} has no documents`, { params: { source: source.name }, hint: 'Take it out of the mix or check its files.' })
    scanned.push({ source, scan })
  }
  const inputs = [buildVersion, tokenizer.hash, split, scanned.map(({ source, scan }) => [source.name, source.licence, scan.fingerprint])]
  return { id: mixIdOf(stem, inputs), tokenizer, eosId, sources: scanned }
}

type Built = { domain: ManifestDomain; files: Record<string, FileRecord> }

/** Tokenizes one source into `folder`. */
async function buildDomain(plan: MixPlan, index: number, folder: string, afterDocument: Pause): Promise<Built> {
  const { source, scan } = plan.sources[index]!
  const tokenBytes = tokenBytesFor(plan.tokenizer.vocabularySize)
  const paths = { train: tokenFile(source.name, 'train'), validation: tokenFile(source.name, 'validation'), index: indexFile(source.name) }
  const writers = { train: createTokenWriter(join(folder, paths.train), tokenBytes), validation: createTokenWriter(join(folder, paths.validation), tokenBytes) }
  const indexWriter = createHashedFile(join(folder, paths.index))
  let [documents, words, validationDocuments] = [0, 0, 0]
  const close = (): Record<string, FileRecord> => ({
    [paths.train]: writers.train.close(),
    [paths.validation]: writers.validation.close(),
    [paths.index]: indexWriter.close(),
  })
  try {
    for await (const { id, text } of source.documents()) {
      const hash = documentHash(text)
      const split = hash <= scan.lastValidationHash ? 'validation' : 'train'
      const start = writers[split].tokens
      writers[split].write(plan.tokenizer.encode(text, { special: 'text' }))
      writers[split].write([plan.eosId])
      indexWriter.write(Buffer.from(`${JSON.stringify({ id, split, start, tokens: writers[split].tokens - start, hash })}\n`))
      documents++
      words += countWords(text)
      if (split === 'validation') validationDocuments++
      await afterDocument()
    }
  } catch (error) {
    close()
    throw error
  }
  if (documents !== scan.documents) {
    throw new AppError('mix.sourceChanged', `source ${source.name} gave ${documents} documents, ${scan.documents} a moment before`, {
      params: { source: source.name, found: documents, expected: scan.documents },
      hint: 'Its files changed while the mix was built. Build again.',
    })
  }
  const tokens = { trainTokens: writers.train.tokens, validationTokens: writers.validation.tokens }
  const { bytes, fingerprint } = scan
  return { domain: { name: source.name, licence: source.licence, fingerprint, documents, bytes, words, validationDocuments, ...tokens }, files: close() }
}

/**
 * Fills the empty `folder` with the mix of `plan`, manifest last, and reads all of it back. The caller publishes the folder (rename) or
 * removes it. Aborting `signal` ends it with the signal's reason.
 */
export async function buildMix(plan: MixPlan, folder: string, options: { onProgress?: MixProgress; signal?: AbortSignal } = {}): Promise<MixManifest> {
  const total = plan.sources.reduce((sum, { scan }) => sum + scan.documents, 0)
  const pause = createPause(options.signal)
  let done = 0
  const afterDocument: Pause = () => {
    done++
    const turn = pause()
    if (turn) options.onProgress?.(done, total)
    return turn
  }
  const domains: ManifestDomain[] = []
  const files: Record<string, FileRecord> = {}
  for (let i = 0; i < plan.sources.length; i++) {
    const built = await buildDomain(plan, i, folder, afterDocument)
    domains.push(built.domain)
    Object.assign(files, built.files)
  }
  const tokenizerFile = createHashedFile(join(folder, 'tokenizer.json'))
  tokenizerFile.write(Buffer.from(serializeTokenizer(plan.tokenizer)))
  files['tokenizer.json'] = tokenizerFile.close()
  const { vocabularySize, hash: tokenizerHash } = plan.tokenizer
  const content = { tokenizerHash, vocabularySize, tokenBytes: tokenBytesFor(vocabularySize), eosId: plan.eosId, domains, files }
  const manifest: MixManifest = { format: 'moe-workbench-mix', version: 1, id: plan.id, hash: mixHashOf(content), ...content }
  writeFileSync(join(folder, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`, { flag: 'wx' })
  options.onProgress?.(total, total)
  return verifyMix(folder)
}

/** Every k-th document of each source, so that about `budgetBytes` come out in the sources' own proportions: what a tokenizer is trained on. */
export async function* stratifiedTexts(sources: readonly Source[], totalBytes: number, budgetBytes: number): AsyncGenerator<string> {
  const share = Math.min(1, budgetBytes / Math.max(1, totalBytes))
  for (const source of sources) {
    let [seen, given] = [0, 0]
    for await (const { text } of source.documents()) {
      seen += text.length
      if (given >= seen * share) continue
      given += text.length
      yield text
    }
  }
}
