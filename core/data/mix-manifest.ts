/**
 * manifest.json of a mix: what the folder holds, what it was made from, and the hash of every file. Nothing in it depends on when or
 * where it was built, so equal inputs give equal bytes. Also the mix's id and the row that the library keeps of it.
 */
import { createHash } from 'node:crypto'
import { createReadStream, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'
import { comparedTaskSchema } from '#core/shared/filters.ts'
import { sourceOutcomeSchema, type Mix } from '#core/shared/mixes.ts'

export const splits = ['train', 'validation'] as const
export type Split = (typeof splits)[number]

const domainSchema = z.object({
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  licence: z.string(),
  /** sha256 over the source's ids and texts. */
  fingerprint: z.string(),
  documents: z.int(),
  bytes: z.int(),
  /** As white space separates them; absent in mixes that were built before they were counted. */
  words: z.int().optional(),
  validationDocuments: z.int(),
  trainTokens: z.int(),
  validationTokens: z.int(),
  /** Times that one pass over the mix sees the training text; absent: once. */
  epochs: z.number().nonnegative().optional(),
})

export const mixManifestSchema = z.object({
  format: z.literal('moe-workbench-mix'),
  version: z.literal(1),
  id: z.string(),
  /** sha256 over id-free content: tokenizer, file names and file hashes. */
  hash: z.string(),
  tokenizerHash: z.string(),
  vocabularySize: z.int(),
  tokenBytes: z.union([z.literal(2), z.literal(4)]),
  /** Ends every document. */
  eosId: z.int(),
  domains: z.array(domainSchema).min(1),
  /** What the filters did, by source; absent where there were none. */
  outcomes: z.array(sourceOutcomeSchema).optional(),
  /** The tasks that training texts were held against; absent where there were none. */
  comparedTasks: z.array(comparedTaskSchema).optional(),
  files: z.record(z.string(), z.object({ sizeBytes: z.int(), sha256: z.string() })),
})
export type MixManifest = z.infer<typeof mixManifestSchema>
export type ManifestDomain = MixManifest['domains'][number]

/** Token file of a domain: raw ids, documents one after another, each ended by EOS. */
export const tokenFile = (domain: string, split: Split): string => `${domain}.${split}.bin`
/** Document index of a domain: JSON lines {id, split, start, tokens, hash}, `start` counted in tokens of the split's file. */
export const indexFile = (domain: string): string => `${domain}.documents.jsonl`

/** A mix's id: a readable stem and a hash of everything that decides its content. */
export function mixIdOf(stem: string, inputs: unknown): string {
  return `${stem}-${createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 12)}`
}

/** The manifest's content hash. */
export function mixHashOf({ tokenizerHash, tokenBytes, eosId, files, domains = [] }: Pick<MixManifest, 'tokenizerHash' | 'tokenBytes' | 'eosId' | 'files'> & { domains?: readonly Pick<ManifestDomain, 'epochs'>[] }): string {
  const names = Object.keys(files).sort()
  const epochs = domains.some((domain) => domain.epochs !== undefined) ? [domains.map((domain) => domain.epochs ?? 1)] : []
  return createHash('sha256')
    .update(JSON.stringify([tokenizerHash, tokenBytes, eosId, names.map((name) => [name, files[name]!.sha256]), ...epochs]))
    .digest('hex')
}

function damaged(file: string, what: string): AppError {
  return new AppError('mix.damaged', `${file}: ${what}`, { params: { file, found: what }, hint: 'Delete the mix and build it again.' })
}

/** Reads and checks a mix's manifest and the sizes of its files. Throws AppError `mix.damaged`. */
export function readMixManifest(folder: string): MixManifest {
  const path = join(folder, 'manifest.json')
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw damaged(path, (error as Error).message)
  }
  const checked = mixManifestSchema.safeParse(value)
  if (!checked.success) throw damaged(path, `${checked.error.issues[0]!.path.join('.')}: ${checked.error.issues[0]!.message}`)
  for (const [name, { sizeBytes }] of Object.entries(checked.data.files)) {
    const found = statSync(join(folder, name), { throwIfNoEntry: false })?.size
    if (found !== sizeBytes) throw damaged(join(folder, name), found === undefined ? 'missing' : `${found} bytes, expected ${sizeBytes}`)
  }
  return checked.data
}

/** Reads every file of a mix back and holds it against its hash. Throws AppError `mix.damaged`. */
export async function verifyMix(folder: string): Promise<MixManifest> {
  const manifest = readMixManifest(folder)
  for (const [name, { sha256 }] of Object.entries(manifest.files)) {
    const hash = createHash('sha256')
    for await (const chunk of createReadStream(join(folder, name), { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
    if (hash.digest('hex') !== sha256) throw damaged(join(folder, name), 'its content does not match its hash')
  }
  if (mixHashOf(manifest) !== manifest.hash) throw damaged(join(folder, 'manifest.json'), 'the mix hash does not match the files')
  return manifest
}

/** The library's row of a mix. */
export function mixRow(manifest: MixManifest, name: string, createdAt: number): Mix {
  const sum = (of: (domain: ManifestDomain) => number): number => manifest.domains.reduce((total, domain) => total + of(domain), 0)
  return {
    id: manifest.id,
    name,
    hash: manifest.hash,
    createdAt,
    vocabularySize: manifest.vocabularySize,
    tokenizerHash: manifest.tokenizerHash,
    domains: manifest.domains.map(({ name: domain, licence, documents, bytes, words = null, trainTokens, validationTokens, epochs = 1 }) => ({
      name: domain, licence, documents, bytes, words, trainTokens, validationTokens, epochs,
    })),
    trainTokens: sum((domain) => domain.trainTokens),
    validationTokens: sum((domain) => domain.validationTokens),
    sizeBytes: Object.values(manifest.files).reduce((total, file) => total + file.sizeBytes, 0),
  }
}
