/** Schemas that every noun of the contract uses. */
import { z } from 'zod'

/** Ids are made by the host: short, URL- and file-name-safe. */
export const idSchema = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected letters, digits, "-" or "_"')

export const errorDataSchema = z.object({
  code: z.string(),
  message: z.string(),
  params: z.record(z.string(), z.union([z.string(), z.number()])),
  hint: z.string(),
})

/** What Blob is in every environment; arrays of more than a few thousand numbers travel as one. */
export type Binary = { readonly size: number; arrayBuffer(): Promise<ArrayBuffer> }
export const binarySchema = z.custom<Binary>(
  (value) => typeof value === 'object' && value !== null && 'arrayBuffer' in value,
  'expected binary data',
)
