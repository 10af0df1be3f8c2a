/**
 * Mixes: token files made from sources by one tokenizer, `mixes/<id>/`, complete or absent.
 * A mix's id is derived from what went in, so building the same thing twice finds it built.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'

export const mixDomainSchema = z.object({
  name: z.string(),
  licence: z.string(),
  documents: z.int(),
  bytes: z.number(),
  trainTokens: z.int(),
  validationTokens: z.int(),
})
export type MixDomain = z.infer<typeof mixDomainSchema>

export const mixSchema = z.object({
  id: z.string(),
  name: z.string(),
  /** sha256 over the manifest's file hashes: two mixes with one hash hold the same tokens in the same order. */
  hash: z.string(),
  createdAt: z.number(),
  vocabularySize: z.int(),
  tokenizerHash: z.string(),
  domains: z.array(mixDomainSchema),
  trainTokens: z.int(),
  validationTokens: z.int(),
  sizeBytes: z.number(),
})
export type Mix = z.infer<typeof mixSchema>

export const mixesContract = {
  list: oc.output(z.array(mixSchema)),
}
