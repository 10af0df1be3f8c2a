/** The tokenizer files of a library: `tokenizers/<name>/tokenizer.json` and the one in each mix's folder. Reading one is remembered while its file stays as it is. */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { loadTokenizer, serializeTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { writeFolderAtomic, writeFileAtomic } from '#core/formats/atomic.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Host } from '#core/shared/host.ts'
import { tokenizerIdSchema, type TokenizerInfo } from '#core/shared/tokenizers.ts'
import { listFolders } from '../checkpoints/files.ts'

const fileName = 'tokenizer.json'
const known = new Map<string, { stamp: string; info: TokenizerInfo }>()

function pathOf({ libraryPath }: Host, id: string): string {
  const inMix = /^mix:(.*)$/.exec(id)
  return inMix ? join(libraryPath, 'mixes', inMix[1]!, fileName) : join(libraryPath, 'tokenizers', id, fileName)
}

/** The file of a tokenizer. Throws tokenizers.notFound. */
export function tokenizerPath(host: Host, id: string): string {
  const path = pathOf(host, tokenizerIdSchema.parse(id))
  if (!existsSync(path)) throw new AppError('tokenizers.notFound', `There is no tokenizer ${id}`, { params: { id }, hint: 'Choose another one, or let one be trained.' })
  return path
}

function describe(id: string, { vocabularySize, hash, eosId }: Pick<Tokenizer, 'vocabularySize' | 'hash' | 'eosId'>, sizeBytes: number): TokenizerInfo {
  return { id, name: id.replace(/^mix:/, ''), vocabularySize, hash, sizeBytes, hasEndOfText: eosId !== null }
}

function read(host: Host, id: string): TokenizerInfo | null {
  const path = pathOf(host, id)
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return null
  const stamp = `${found.size} ${found.mtimeMs}`
  const before = known.get(path)
  if (before?.stamp === stamp) return before.info
  try {
    const info = describe(id, loadTokenizer(path), found.size)
    known.set(path, { stamp, info })
    return info
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    host.log('warning', `tokenizer ${id} cannot be used: ${error.message}`)
    return null
  }
}

/** Every tokenizer once: those of the library's own folder first. */
export function listTokenizers(host: Host): TokenizerInfo[] {
  const ids = [...listFolders(join(host.libraryPath, 'tokenizers')), ...listFolders(join(host.libraryPath, 'mixes')).map((id) => `mix:${id}`)]
  const byHash = new Map<string, TokenizerInfo>()
  for (const id of ids) {
    const info = read(host, id)
    if (info !== null && !byHash.has(info.hash)) byHash.set(info.hash, info)
  }
  return [...byHash.values()]
}

/** Puts a tokenizer into the library; the same one again is the one that is there. */
export async function keepTokenizer(host: Host, name: string, tokenizer: Tokenizer): Promise<TokenizerInfo> {
  const stem = name.replace(/\.json$/i, '').replace(/[^A-Za-z0-9_-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 40) || 'tokenizer'
  const id = `${stem}-${tokenizer.hash.slice(0, 12)}`
  const folder = join(host.libraryPath, 'tokenizers', id)
  const json = serializeTokenizer(tokenizer)
  if (!existsSync(folder)) {
    mkdirSync(join(host.libraryPath, 'tokenizers'), { recursive: true })
    await writeFolderAtomic(folder, (temporary) => writeFileAtomic(join(temporary, fileName), [json]))
  }
  return describe(id, tokenizer, Buffer.byteLength(json))
}
