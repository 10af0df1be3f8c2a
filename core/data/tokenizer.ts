/**
 * Byte-level BPE: text to ids and back, from and to Hugging Face's tokenizer.json. Reads the GPT-2 / GPT-NeoX / OLMo kind
 * (BPE model, ByteLevel, optional NFC, added tokens); anything else is refused by field. Encoding equals Hugging Face's.
 * A lone surrogate, which no UTF-8 text can hold, becomes U+FFFD.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'
import { byteCharacters, characterBytes, wordPattern } from './byte-level.ts'

const addedTokenSchema = z.object({ id: z.int().min(0), content: z.string().min(1), special: z.boolean().default(false) })
const fileSchema = z.object({
  normalizer: z.object({ type: z.literal('NFC') }).nullable().optional(),
  pre_tokenizer: z.object({ type: z.literal('ByteLevel'), add_prefix_space: z.boolean().default(false), use_regex: z.boolean().default(true) }),
  added_tokens: z.array(addedTokenSchema).default([]),
  model: z.object({
    type: z.literal('BPE').default('BPE'),
    vocab: z.record(z.string(), z.int().min(0)),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
})

export type AddedToken = z.output<typeof addedTokenSchema>
/** What defines a tokenizer; `tokens[id]` are byte-level strings, added tokens included. */
export type TokenizerDefinition = { tokens: readonly string[]; merges: readonly (readonly [string, string])[]; addedTokens: readonly AddedToken[]; normalise: boolean }

/** Turns ids into text as they come, holding bytes back until a character is whole. */
export type TokenDecoder = { push(id: number): string; end(): string }

export type Tokenizer = {
  readonly vocabularySize: number
  readonly addedTokens: readonly AddedToken[]
  /** Content of tokenizer.json. */
  readonly json: string
  /** sha256 of `json`. */
  readonly hash: string
  encode(text: string): number[]
  decode(ids: Iterable<number>): string
  createDecoder(): TokenDecoder
}

const cacheLimit = 200_000
const cachedWordLength = 48

/** Merges the lowest-ranked pair of `ids` (byte ids of one word) until none is left. */
function mergeWord(ids: number[], ranks: ReadonlyMap<number, { rank: number; id: number }>, size: number): number[] {
  while (ids.length > 1) {
    let best: { rank: number; id: number } | undefined
    let at = -1
    for (let i = 0; i + 1 < ids.length; i++) {
      const merge = ranks.get(ids[i]! * size + ids[i + 1]!)
      if (merge && (best === undefined || merge.rank < best.rank)) [best, at] = [merge, i]
    }
    if (!best) break
    ids.splice(at, 2, best.id)
  }
  return ids
}

function serialise({ tokens, merges, addedTokens, normalise }: TokenizerDefinition): string {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return `${JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens.map(({ id, content, special }) => ({ id, content, ...flags, special })),
    normalizer: normalise ? { type: 'NFC' } : null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => [left, right]),
    },
  })}\n`
}

/** Builds a tokenizer from its definition; `json` defaults to its own serialisation. */
export function createTokenizer(definition: TokenizerDefinition, json = serialise(definition)): Tokenizer {
  const { tokens, merges, addedTokens, normalise } = definition
  const size = tokens.length
  const idOf = new Map(tokens.map((token, id) => [token, id]))
  const byteIds = byteCharacters.map((character) => idOf.get(character) ?? -1)
  const ranks = new Map(merges.map(([left, right], rank) => [idOf.get(left)! * size + idOf.get(right)!, { rank, id: idOf.get(left + right)! }]))
  const added = new Map(addedTokens.map(({ content, id }) => [content, id]))
  const escaped = [...added.keys()].sort((a, b) => b.length - a.length).map((content) => content.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  const addedPattern = escaped.length > 0 ? new RegExp(`(${escaped.join('|')})`) : null
  const addedById = new Map(addedTokens.map(({ content, id }) => [id, content]))
  const cache = new Map<string, number[]>()
  const utf8 = new TextEncoder()
  const tokenBytes = new Map<number, Uint8Array>()

  const encodeWord = (word: string): number[] => {
    const known = cache.get(word)
    if (known) return known
    const ids = mergeWord(Array.from(utf8.encode(word), (byte) => byteIds[byte]!), ranks, size)
    if (word.length <= cachedWordLength) {
      if (cache.size >= cacheLimit) cache.clear()
      cache.set(word, ids)
    }
    return ids
  }
  const encodePlain = (text: string, out: number[]): void => {
    for (const word of (normalise ? text.normalize('NFC') : text).match(wordPattern) ?? []) for (const id of encodeWord(word)) out.push(id)
  }
  const bytesOf = (id: number): Uint8Array => {
    let bytes = tokenBytes.get(id)
    if (!bytes) {
      const content = addedById.get(id)
      bytes = content !== undefined ? utf8.encode(content) : Uint8Array.from(tokens[id] ?? '', (character) => characterBytes.get(character) ?? 63)
      tokenBytes.set(id, bytes)
    }
    return bytes
  }
  const createDecoder = (): TokenDecoder => {
    const decoder = new TextDecoder('utf-8')
    return { push: (id) => decoder.decode(bytesOf(id), { stream: true }), end: () => decoder.decode() }
  }
  return {
    vocabularySize: size,
    addedTokens,
    json,
    hash: createHash('sha256').update(json).digest('hex'),
    encode(text) {
      const out: number[] = []
      const clean = text.isWellFormed() ? text : text.toWellFormed()
      if (!addedPattern) encodePlain(clean, out)
      else {
        for (const part of clean.split(addedPattern)) {
          const id = added.get(part)
          if (id !== undefined) out.push(id)
          else if (part !== '') encodePlain(part, out)
        }
      }
      return out
    },
    decode(ids) {
      const decoder = createDecoder()
      let text = ''
      for (const id of ids) text += decoder.push(id)
      return text + decoder.end()
    },
    createDecoder,
  }
}

function invalid(path: string, field: string, what: string): AppError {
  return new AppError('tokenizer.invalid', `${path}: ${field}: ${what}`, { params: { file: path, field }, hint: 'Only byte-level BPE tokenizers (GPT-2, GPT-NeoX, OLMo) can be read.' })
}

/** Ids must be 0..n−1 without holes, every byte must have a token, every merge must make a token. */
function checkDefinition(path: string, { tokens, merges }: TokenizerDefinition): void {
  const hole = Array.from(tokens).findIndex((token) => token === undefined)
  if (hole >= 0) throw invalid(path, 'model.vocab', `no token has id ${hole}`)
  const known = new Set(tokens)
  const missing = byteCharacters.findIndex((character) => !known.has(character))
  if (missing >= 0) throw invalid(path, 'model.vocab', `byte ${missing} has no token`)
  const broken = merges.findIndex(([left, right]) => !known.has(left) || !known.has(right) || !known.has(left + right))
  if (broken >= 0) throw invalid(path, `model.merges.${broken}`, `"${merges[broken]!.join(' ')}" joins tokens that are not in the vocabulary`)
}

/** Reads a tokenizer.json. Throws AppError `tokenizer.invalid` naming the field. */
export function loadTokenizer(path: string): Tokenizer {
  let json: string
  let content: unknown
  try {
    json = readFileSync(path, 'utf8')
    content = JSON.parse(json)
  } catch (error) {
    throw invalid(path, '(file)', error instanceof SyntaxError ? 'is not JSON' : 'cannot be read')
  }
  const parsed = fileSchema.safeParse(content)
  if (!parsed.success) throw invalid(path, parsed.error.issues[0]!.path.join('.'), parsed.error.issues[0]!.message)
  const { model, added_tokens: addedTokens, normalizer, pre_tokenizer: split } = parsed.data
  if (split.add_prefix_space || !split.use_regex) throw invalid(path, 'pre_tokenizer', 'expected add_prefix_space false and use_regex true')
  const tokens: string[] = []
  for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token
  for (const { id, content: text } of addedTokens) tokens[id] ??= text
  const merges = model.merges.map((merge): [string, string] => (typeof merge === 'string' ? (merge.split(' ') as [string, string]) : merge))
  const definition = { tokens, merges, addedTokens, normalise: normalizer !== null && normalizer !== undefined }
  checkDefinition(path, definition)
  return createTokenizer(definition, json)
}
