/**
 * The OpenAI-compatible API for programs on this machine: off until it is switched on, on loopback, with keys of its own that can use
 * models and nothing else. A key is shown once, when it is made.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { idSchema } from './common.ts'

export const apiKeySchema = z.object({ id: idSchema, name: z.string(), /** Its first characters, to tell keys apart. */ start: z.string(), createdAt: z.number() })
export type ApiKey = z.infer<typeof apiKeySchema>

/** Since the core started. */
export const apiCountsSchema = z.object({ requests: z.int(), failed: z.int(), underWay: z.int(), promptTokens: z.number(), completionTokens: z.number(), lastAt: z.number().nullable() })
export type ApiCounts = z.infer<typeof apiCountsSchema>

export const apiServerStateSchema = z.object({
  on: z.boolean(),
  /** Wanted port; used at the next start of the server. */
  port: z.int().min(1024).max(65535),
  /** The address to give to clients; null while it is off. */
  url: z.string().nullable(),
  keys: z.array(apiKeySchema),
  counts: apiCountsSchema,
})
export type ApiServerState = z.infer<typeof apiServerStateSchema>

export const apiServerContract = {
  state: oc.output(apiServerStateSchema),
  /** Switches it on or off, or moves it; remembered. Refused with serve.portInUse. */
  update: oc.input(z.object({ on: z.boolean(), port: z.int().min(1024).max(65535).optional() })).output(apiServerStateSchema),
  createKey: oc.input(z.object({ name: z.string().max(80) })).output(z.object({ key: apiKeySchema, secret: z.string() })),
  removeKey: oc.input(z.object({ id: idSchema })).output(apiServerStateSchema),
}
