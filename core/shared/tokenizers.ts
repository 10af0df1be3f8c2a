/** Tokenizers of a library: those that were loaded into it, and those that its mixes carry. Any byte-level BPE in a tokenizer.json will do. */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { binarySchema } from './common.ts'

export const tokenizerSchema = z.object({
  id: z.string(),
  /** Its folder's name. */
  name: z.string(),
  vocabularySize: z.int(),
  hash: z.string(),
  sizeBytes: z.number(),
  /** Mixes need <|endoftext|> to end documents with. */
  hasEndOfText: z.boolean(),
})
export type TokenizerInfo = z.infer<typeof tokenizerSchema>

/** Of one mix, or lying in the library's tokenizers. */
export const tokenizerIdSchema = z.string().regex(/^(mix:)?[A-Za-z0-9_-]{1,128}$/)

const name = z.string().trim().min(1).max(200)

export const tokenizersContract = {
  /** Every one once, though several mixes have it. */
  list: oc.output(z.array(tokenizerSchema)),
  /** Takes a tokenizer.json into the library: a file of the core's machine, or its content. */
  load: oc.input(z.union([z.object({ path: z.string().min(1) }), z.object({ name, data: binarySchema })])).output(tokenizerSchema),
}
