/**
 * The tokenizer.json format as far as byte-level BPE needs it. Only what the encoder follows exactly is accepted: anything that
 * would change ids (another pre-tokenizer, prefixes, unknown tokens, stripping) is refused by name, never skipped.
 * The checked object keeps every field, so that saving a loaded tokenizer loses nothing.
 */
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'

const off = z.union([z.literal(false), z.null()]).optional()
const absent = z.union([z.literal(''), z.null()]).optional()
const byteLevel = z.looseObject({ type: z.literal('ByteLevel'), add_prefix_space: z.boolean().optional(), use_regex: z.literal(true).optional() })

const addedTokenSchema = z.looseObject({
  id: z.int().nonnegative(),
  content: z.string().min(1),
  special: z.boolean(),
  normalized: z.boolean().optional(),
  single_word: off,
  lstrip: off,
  rstrip: off,
})

const tokenizerJsonSchema = z.looseObject({
  version: z.string().optional(),
  added_tokens: z.array(addedTokenSchema),
  normalizer: z.union([z.null(), z.looseObject({ type: z.literal('NFC') })]).optional(),
  pre_tokenizer: byteLevel,
  decoder: z.looseObject({ type: z.literal('ByteLevel') }),
  model: z.looseObject({
    type: z.literal('BPE').optional(),
    dropout: z.union([z.literal(0), z.null()]).optional(),
    unk_token: z.null().optional(),
    continuing_subword_prefix: absent,
    end_of_word_suffix: absent,
    byte_fallback: off,
    ignore_merges: off,
    vocab: z.record(z.string(), z.int().nonnegative()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
})
export type TokenizerJson = z.infer<typeof tokenizerJsonSchema>
export type AddedToken = z.infer<typeof addedTokenSchema>

export function tokenizerError(file: string, field: string, what: string): AppError {
  return new AppError('tokenizer.unsupported', `${file}: ${field}: ${what}`, {
    params: { file, field, found: what },
    hint: 'Expected a byte-level BPE tokenizer.json with the GPT-2 word pattern (GPT-2, GPT-NeoX and OLMo have one).',
  })
}

/** Checks a parsed tokenizer.json; `file` names it in errors. Throws AppError `tokenizer.unsupported`. */
export function checkTokenizerJson(value: unknown, file: string): TokenizerJson {
  const checked = tokenizerJsonSchema.safeParse(value)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]!
  throw tokenizerError(file, issue.path.join('.') || 'file', issue.message)
}

/** Both halves of a merge, written "a b" or ["a", "b"]. */
export function mergeParts(merge: string | [string, string]): [string, string] {
  if (typeof merge !== 'string') return merge
  const space = merge.indexOf(' ')
  return [merge.slice(0, space), merge.slice(space + 1)]
}

/** The file of a new tokenizer: no normalizer (decoding gives back the very text), no prefix space, `specials` as added tokens. */
export function newTokenizerJson(vocabulary: readonly string[], merges: [string, string][], specials: readonly string[]): TokenizerJson {
  const byteLevelParts = { type: 'ByteLevel' as const, add_prefix_space: false, trim_offsets: true, use_regex: true as const }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, id) => ({
      id,
      content,
      single_word: false as const,
      lstrip: false as const,
      rstrip: false as const,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevelParts,
    post_processor: null,
    decoder: byteLevelParts,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges,
    },
  }
}
