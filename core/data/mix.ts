/**
 * Builds a mix: documents of several domains, tokenized, split into training and held-out parts, written as token files.
 * `mixes/<id>/` holds per domain and part a raw little-endian token file (uint16, or uint32 above 65,536 ids; every document ends
 * with EOS) and a document index (uint32 first token of each document), and a manifest with the hash of every file.
 * The id comes from what went in: the same documents, tokenizer and settings give the same folder, byte for byte.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic, writeFolderAtomic, sha256File, type WrittenFile } from '#core/formats/atomic.ts'
import { AppError } from '#core/shared/errors.ts'
import { mixDomainSchema, type Mix } from '#core/shared/mixes.ts'
import { serializeTokenizer, type Tokenizer } from './tokenizer.ts'

export type Document = { id: string; text: string }
export type DomainDocuments = { name: string; licence: string; documents: readonly Document[] }
export const parts = ['train', 'validation'] as const
export type Part = (typeof parts)[number]

const fileSchema = z.object({ sizeBytes: z.number(), sha256: z.string() })
export const mixManifestSchema = z.object({
  format: z.literal('moe-workbench-mix'),
  version: z.literal(1),
  id: z.string(),
  name: z.string(),
  hash: z.string(),
  createdAt: z.number(),
  vocabularySize: z.int(),
  eosTokenId: z.int(),
  bytesPerToken: z.union([z.literal(2), z.literal(4)]),
  tokenizerHash: z.string(),
  domains: z.array(mixDomainSchema),
  files: z.record(z.string(), fileSchema),
})
export type MixManifest = z.infer<typeof mixManifestSchema>

export type MixOptions = {
  name: string
  tokenizer: Tokenizer
  eosTokenId: number
  /** Share of a domain's bytes that is held out, at least `validationFloorBytes`. */
  validationShare: number
  validationFloorBytes: number
  now: number
  /** Bytes tokenized so far of all bytes. */
  onProgress(doneBytes: number, totalBytes: number): void
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/**
 * Splits a domain's documents by hash: those of lowest hash are held out until their share is reached. A document's part depends on
 * its text, not its place; a text that stands twice is used once, so nothing held out can be trained on.
 */
export function splitDocuments(documents: readonly Document[], share: number, floorBytes: number): Record<Part, Document[]> {
  const byHash = new Map<string, Document>()
  for (const document of documents) {
    const hash = sha256(document.text)
    if (!byHash.has(hash)) byHash.set(hash, document)
  }
  const size = (document: Document): number => Buffer.byteLength(document.text)
  const total = [...byHash.values()].reduce((sum, document) => sum + size(document), 0)
  const wanted = Math.min(total / 2, Math.max(share * total, floorBytes))
  const validation = new Set<Document>()
  let bytes = 0
  for (const hash of [...byHash.keys()].sort()) {
    if (bytes >= wanted || validation.size === byHash.size - 1) break
    const document = byHash.get(hash)!
    validation.add(document)
    bytes += size(document)
  }
  const unique = [...byHash.values()]
  return { train: unique.filter((document) => !validation.has(document)), validation: unique.filter((document) => validation.has(document)) }
}

/** The id that buildMix would give: a hash of everything that decides the token files. */
export function mixIdOf(domains: readonly DomainDocuments[], options: Pick<MixOptions, 'tokenizer' | 'eosTokenId' | 'validationShare' | 'validationFloorBytes'>): string {
  const hash = createHash('sha256')
  hash.update(JSON.stringify([1, options.tokenizer.hash, options.eosTokenId, options.validationShare, options.validationFloorBytes]))
  for (const { name, documents } of domains) {
    hash.update(`\0${name}\0`)
    for (const { text } of documents) hash.update(sha256(text))
  }
  return hash.digest('hex').slice(0, 16)
}

/** Tokens of documents, each ended by EOS, and the first token of each. Gives the event loop a turn every few documents. */
async function tokenize(documents: readonly Document[], { tokenizer, eosTokenId }: MixOptions, onBytes: (bytes: number) => void): Promise<{ tokens: number[]; starts: number[] }> {
  const tokens: number[] = []
  const starts: number[] = []
  let sinceTurn = 0
  for (const { text } of documents) {
    starts.push(tokens.length)
    for (const id of tokenizer.encode(text, { special: 'text' })) tokens.push(id)
    tokens.push(eosTokenId)
    const bytes = Buffer.byteLength(text)
    onBytes(bytes)
    sinceTurn += bytes
    if (sinceTurn < 200_000) continue
    sinceTurn = 0
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { tokens, starts }
}

function littleEndian(values: readonly number[], bytes: 2 | 4): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * bytes))
  values.forEach((value, i) => (bytes === 2 ? view.setUint16(2 * i, value, true) : view.setUint32(4 * i, value, true)))
  return new Uint8Array(view.buffer)
}

/** Builds the mix under `mixesFolder`, or finds it built. Nothing half-written is ever seen under its final name. */
export async function buildMix(domains: readonly DomainDocuments[], options: MixOptions, mixesFolder: string): Promise<MixManifest> {
  const id = mixIdOf(domains, options)
  const folder = join(mixesFolder, id)
  if (existsSync(join(folder, 'manifest.json'))) return readMixManifest(folder)
  mkdirSync(mixesFolder, { recursive: true })
  const totalBytes = domains.reduce((sum, { documents }) => sum + documents.reduce((bytes, { text }) => bytes + Buffer.byteLength(text), 0), 0)
  let doneBytes = 0
  const bytesPerToken = options.tokenizer.vocabularySize <= 65_536 ? 2 : 4
  return writeFolderAtomic(folder, async (temporary) => {
    const files: Record<string, WrittenFile> = {}
    const write = async (name: string, content: Uint8Array): Promise<void> => {
      files[name] = await writeFileAtomic(join(temporary, name), [content])
      if ((await sha256File(join(temporary, name))) !== files[name].sha256) throw new AppError('disk.corrupt', `${name} read back differs from what was written`, { params: { file: name }, hint: 'The disk may be failing. Try another library folder.' })
    }
    const described: Mix['domains'] = []
    for (const { name, licence, documents } of domains) {
      const split = splitDocuments(documents, options.validationShare, options.validationFloorBytes)
      const counts = { train: 0, validation: 0 }
      for (const part of parts) {
        const { tokens, starts } = await tokenize(split[part], options, (bytes) => options.onProgress((doneBytes += bytes), totalBytes))
        await write(`${name}.${part}.tokens`, littleEndian(tokens, bytesPerToken))
        await write(`${name}.${part}.documents`, littleEndian(starts, 4))
        counts[part] = tokens.length
      }
      const used = [...split.train, ...split.validation]
      const bytes = used.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)
      described.push({ name, licence, documents: used.length, bytes, trainTokens: counts.train, validationTokens: counts.validation })
    }
    files['tokenizer.json'] = await writeFileAtomic(join(temporary, 'tokenizer.json'), [serializeTokenizer(options.tokenizer)])
    const manifest: MixManifest = {
      format: 'moe-workbench-mix',
      version: 1,
      id,
      name: options.name,
      hash: sha256(JSON.stringify(Object.entries(files).map(([name, file]) => [name, file.sha256]).sort())),
      createdAt: options.now,
      vocabularySize: options.tokenizer.vocabularySize,
      eosTokenId: options.eosTokenId,
      bytesPerToken,
      tokenizerHash: options.tokenizer.hash,
      domains: described,
      files,
    }
    await writeFileAtomic(join(temporary, 'manifest.json'), [`${JSON.stringify(manifest, null, 2)}\n`])
    return manifest
  })
}

/** Reads a mix's manifest. Throws AppError `mix.damaged`. */
export function readMixManifest(folder: string): MixManifest {
  try {
    return mixManifestSchema.parse(JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')))
  } catch (error) {
    throw new AppError('mix.damaged', `${folder} is not a mix: ${error instanceof Error ? error.message : String(error)}`, { params: { folder }, hint: 'Build the mix again.' })
  }
}

/** What the rest of the product knows of a mix. */
export function describeMix(manifest: MixManifest): Mix {
  const { id, name, hash, createdAt, vocabularySize, tokenizerHash, domains, files } = manifest
  const total = (key: 'trainTokens' | 'validationTokens'): number => domains.reduce((sum, domain) => sum + domain[key], 0)
  return {
    id, name, hash, createdAt, vocabularySize, tokenizerHash, domains,
    trainTokens: total('trainTokens'),
    validationTokens: total('validationTokens'),
    sizeBytes: Object.values(files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  }
}
