/**
 * Filters of a mix: what a document is dropped for, each with its threshold; null or false switches one off. The defaults of repeats
 * and code are OLMoE's (section 2 of its paper).
 */
import { z } from 'zod'
import { idSchema } from './common.ts'

export const filterNames = ['length', 'repeats', 'stars', 'words', 'exact', 'near', 'contamination'] as const
export const filterNameSchema = z.enum(filterNames)
export type FilterName = z.infer<typeof filterNameSchema>

export const filterSettingsSchema = z.object({
  /** Tokens of a document, without the one that ends it. */
  length: z.object({ minTokens: z.int().min(0).default(1), maxTokens: z.int().positive().default(10_000_000) }).nullable().prefault({}),
  /** A sequence of 1 to `longest` tokens that stands `count` or more times in a row. */
  repeats: z.object({ count: z.int().min(2).default(32), longest: z.int().min(1).max(64).default(13) }).nullable().prefault({}),
  /** Code only, and only where a field gives the stars. */
  stars: z.object({ atLeast: z.number().min(0).default(2) }).nullable().prefault({}),
  /** Code only: share of all words that the most frequent one, and the two most frequent together, may have. */
  words: z.object({ top: z.number().gt(0).max(1).default(0.3), topTwo: z.number().gt(0).max(1).default(0.5) }).nullable().prefault({}),
  /** Texts that an earlier document has already, in any source. */
  exact: z.boolean().default(true),
  /** Texts whose sets of `shingle` words in a row overlap (Jaccard) at least this much with an earlier document's, as MinHash estimates it. */
  near: z.object({ similarity: z.number().min(0.5).max(1).default(0.8), shingle: z.int().min(1).max(32).default(5) }).nullable().default(null),
  /** Training documents with `ngram` words in a row that an evaluation text or a held-out document has, at least `matches` times.
   * What more than `commonIn` training documents share with held-out ones is a common phrase and does not count. Evaluation texts are
   * the items of the `tasks` that are evaluated here (names, or all: the built-in ones and the library's), and the files of `texts`. */
  contamination: z.object({ ngram: z.int().min(2).max(64).default(13), matches: z.int().min(1).default(1), commonIn: z.int().min(1).default(10), tasks: z.union([z.literal('all'), z.array(idSchema)]).default('all'), texts: z.array(z.string()).default([]), heldOut: z.boolean().default(true) }).nullable().prefault({}),
})
export type FilterSettings = z.infer<typeof filterSettingsSchema>

/** A task that training texts were compared with: the hash of its file, its items, and how many of them have enough words to be compared. */
export const comparedTaskSchema = z.object({ task: z.string(), sha256: z.string(), items: z.int(), compared: z.int() })
export type ComparedTask = z.infer<typeof comparedTaskSchema>

/** What one filter dropped of one source. */
export const droppedSchema = z.object({
  filter: filterNameSchema,
  documents: z.int(),
  tokens: z.number(),
  examples: z.array(z.object({ id: z.string(), why: z.string(), text: z.string() })),
})
export type Dropped = z.infer<typeof droppedSchema>
