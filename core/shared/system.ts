/** The machine, the library and the remembered settings. */
import { oc } from '@orpc/contract'
import { z } from 'zod'

export const settingsSchema = z.object({
  language: z.enum(['system', 'en', 'zh']).default('system'),
  theme: z.enum(['system', 'light', 'dark']).default('system'),
  /** What a view last used (chart smoothing, sampling, …), by the view's own key. */
  views: z.record(z.string(), z.json()).default({}),
})
export type Settings = z.infer<typeof settingsSchema>

export const aboutSchema = z.object({
  version: z.string(),
  libraryPath: z.string(),
  libraryBytes: z.number(),
  freeBytes: z.number(),
  host: z.enum(['electron', 'serve', 'cli', 'test']),
  platform: z.string(),
  cpu: z.object({ name: z.string(), cores: z.int(), isa: z.string() }),
  memoryBytes: z.number(),
  /** Multiply-add peak of the CPU backend, measured once per start; null until measured. */
  peakFlopsPerSecond: z.number().nullable(),
})
export type About = z.infer<typeof aboutSchema>

export const systemContract = {
  about: oc.output(aboutSchema),
  settings: oc.output(settingsSchema),
  updateSettings: oc.input(settingsSchema.partial()).output(settingsSchema),
}
