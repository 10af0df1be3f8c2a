/**
 * A byte-level BPE tokenizer: text to ids and back, ids equal to Hugging Face's for the same tokenizer.json. It owns the
 * format's meaning; words and merges are word-encoder.ts. It adds no BOS, EOS or padding of its own: whoever builds sequences does.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { AppError } from '#core/shared/errors.ts'
import { byteCharacters, tokenBytes } from './byte-level.ts'
import { checkTokenizerJson, mergeParts, tokenizerError, type AddedToken, type TokenizerJson } from './tokenizer-json.ts'
import { createUtf8Buffer } from './utf8-buffer.ts'
import { createWordEncoder, type Merges } from './word-encoder.ts'

/** Ends every document; the first of the special tokens of a trained tokenizer, so its id is 0. */
export const endOfText = '<|endoftext|>'
/** Special tokens of a trained tokenizer. As in OLMoE, the chat markers `<|user|>`, `<|assistant|>`, `<|system|>` are plain text. */
export const defaultSpecialTokens: readonly string[] = [endOfText, '<|padding|>']

export type StreamDecoder = {
  /** The text that became whole with this id: nothing while it ends inside a UTF-8 character. */
  push(id: number): string
  /** What is left, cut characters as U+FFFD. */
  end(): string
}

export type Tokenizer = {
  /** Largest id + 1. */
  readonly vocabularySize: number
  /** Id of `<|endoftext|>`, or null when the vocabulary has none. */
  readonly eosId: number | null
  /** sha256 of `serializeTokenizer`. */
  readonly hash: string
  readonly json: TokenizerJson
  /** Special tokens written out in the text become their ids, unless `special` is 'text': then they are ordinary text (documents). */
  encode(text: string, options?: { special?: 'token' | 'text' }): Uint32Array
  /** Ids outside the vocabulary give no text (models may have more rows than the tokenizer has tokens). */
  decode(ids: Iterable<number>): string
  createDecoder(): StreamDecoder
  /** The bytes of an id; undefined outside the vocabulary. */
  bytesOf(id: number): Uint8Array | undefined
  /** Id of a token as it is written in the file ("Ġthe") or of an added token. */
  idOf(token: string): number | undefined
}

/** Ids stay below this: the model's embedding has a row for each. */
const idLimit = 2 ** 21

function readMerges(json: TokenizerJson, file: string): Merges {
  const vocabulary = new Map(Object.entries(json.model.vocab))
  const need = (token: string, field: string): number => {
    const id = vocabulary.get(token)
    if (id === undefined) throw tokenizerError(file, field, `token ${JSON.stringify(token)} is not in the vocabulary`)
    if (id >= idLimit) throw tokenizerError(file, field, `id ${id} is beyond ${idLimit - 1}`)
    return id
  }
  const count = json.model.merges.length
  const merges = { byteIds: Int32Array.from(byteCharacters, (character) => need(character, 'model.vocab')), lefts: new Int32Array(count), rights: new Int32Array(count), results: new Int32Array(count) }
  json.model.merges.forEach((merge, rank) => {
    const [left, right] = mergeParts(merge)
    const field = `model.merges[${rank}]`
    merges.lefts[rank] = need(left, field)
    merges.rights[rank] = need(right, field)
    merges.results[rank] = need(left + right, field)
  })
  return merges
}

/** Cuts text at added tokens: the longest one at the leftmost place wins. Odd parts are the tokens. Null when there are none. */
function createSplitter(tokens: readonly AddedToken[]): ((text: string) => string[]) | null {
  if (tokens.length === 0) return null
  const longestFirst = tokens.map(({ content }) => content).sort((a, b) => b.length - a.length)
  const pattern = new RegExp(`(${longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')).join('|')})`, 'u')
  return (text) => text.split(pattern)
}

/** The encoder of one tokenizer.json, in Hugging Face's order: raw added tokens, normalizer, normalized added tokens, words, merges. */
function createEncoder(json: TokenizerJson, merges: Merges): Tokenizer['encode'] {
  const words = createWordEncoder(merges)
  const utf8 = createUtf8Buffer()
  const idOfAdded = new Map(json.added_tokens.map(({ content, id }) => [content, id]))
  const normalize = (text: string): string => (json.normalizer ? text.normalize('NFC') : text)
  const prefix = json.pre_tokenizer.add_prefix_space === true
  const raw = json.added_tokens.filter((token) => token.normalized !== true)
  const [splitRaw, splitRawPlain] = [createSplitter(raw), createSplitter(raw.filter((token) => !token.special))]
  const normalized = json.added_tokens.filter((token) => token.normalized === true)
  const [splitNormalized, splitNormalizedPlain] = [createSplitter(normalized), createSplitter(normalized.filter((token) => !token.special))]

  const encodeWords = (text: string): void => {
    const length = utf8.fill(prefix && !text.startsWith(' ') ? ` ${text}` : text)
    words.encode(utf8.bytes, length)
  }
  const eachPart = (text: string, split: ((text: string) => string[]) | null, between: (part: string) => void): void => {
    if (!split) return between(text)
    split(text).forEach((part, i) => {
      if (i % 2 === 1) words.append(idOfAdded.get(part)!)
      else if (part !== '') between(part)
    })
  }
  return (text, { special = 'token' } = {}) => {
    const plain = special === 'text'
    if (text !== '') eachPart(text.toWellFormed(), plain ? splitRawPlain : splitRaw, (part) => eachPart(normalize(part), plain ? splitNormalizedPlain : splitNormalized, encodeWords))
    return words.take()
  }
}

/** The bytes of every id; undefined where the ids have a gap. */
function readBytes(json: TokenizerJson, file: string): (Uint8Array | undefined)[] {
  const bytesOf: (Uint8Array | undefined)[] = []
  const added = new Set(json.added_tokens.map(({ id }) => id))
  for (const [token, id] of Object.entries(json.model.vocab)) {
    if (added.has(id)) continue
    const bytes = tokenBytes(token)
    if (!bytes) throw tokenizerError(file, 'model.vocab', `token ${JSON.stringify(token)} is not written in byte-level characters`)
    bytesOf[id] = bytes
  }
  for (const { id, content } of json.added_tokens) bytesOf[id] = new TextEncoder().encode(content)
  return bytesOf
}

/** A tokenizer from a parsed tokenizer.json; `file` names it in errors. Throws AppError `tokenizer.unsupported`. */
export function createTokenizer(value: unknown, file = 'tokenizer.json'): Tokenizer {
  const json = checkTokenizerJson(value, file)
  const bytesOf = readBytes(json, file)
  const ids = new Map([...Object.entries(json.model.vocab), ...json.added_tokens.map(({ content, id }): [string, number] => [content, id])])
  const createDecoder = (): StreamDecoder => {
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
    return {
      push: (id) => (bytesOf[id] ? utf8.decode(bytesOf[id], { stream: true }) : ''),
      end: () => utf8.decode(),
    }
  }
  return {
    vocabularySize: bytesOf.length,
    eosId: ids.get(endOfText) ?? null,
    hash: createHash('sha256').update(serialize(json)).digest('hex'),
    json,
    encode: createEncoder(json, readMerges(json, file)),
    decode(sequence) {
      const parts: Uint8Array[] = []
      for (const id of sequence) if (bytesOf[id]) parts.push(bytesOf[id])
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts))
    },
    createDecoder,
    bytesOf: (id) => bytesOf[id],
    idOf: (token) => ids.get(token),
  }
}

/** Reads a tokenizer.json. Throws AppError `file.unreadable` or `tokenizer.unsupported`. */
export function loadTokenizer(path: string): Tokenizer {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const hint = 'Check the path and its permissions, and that the file is a whole tokenizer.json.'
    throw new AppError('file.unreadable', `${path} cannot be read: ${(error as Error).message}`, { params: { file: path }, hint, cause: error })
  }
  return createTokenizer(value, path)
}

function serialize(json: TokenizerJson): string {
  return `${JSON.stringify(json, null, 1)}\n`
}

/** The text of the tokenizer's tokenizer.json, which Hugging Face's libraries load. */
export function serializeTokenizer(tokenizer: Tokenizer): string {
  return serialize(tokenizer.json)
}
