/** The machine, the library and the remembered settings. */
import { oc } from '@orpc/contract'
import { z } from 'zod'

const settings = {
  language: z.enum(['system', 'en', 'zh']),
  theme: z.enum(['system', 'light', 'dark']),
  /** What a view last used (chart smoothing, sampling, …), by the view's own key. */
  views: z.record(z.string(), z.json()),
}
export const settingsSchema = z.object({
  language: settings.language.default('system'),
  theme: settings.theme.default('system'),
  views: settings.views.default({}),
})
export type Settings = z.infer<typeof settingsSchema>
/** What is given changes, the rest stays; of `views`, the keys that are given. (Made without the defaults: they would overwrite the rest.) */
export const settingsChangeSchema = z.object(settings).partial()

export const aboutSchema = z.object({
  version: z.string(),
  libraryPath: z.string(),
  libraryBytes: z.number(),
  freeBytes: z.number(),
  host: z.enum(['electron', 'serve', 'cli', 'test']),
  platform: z.string(),
  cpu: z.object({ name: z.string(), cores: z.int(), isa: z.string() }),
  memoryBytes: z.number(),
  /** Multiply-add peak of the CPU backend, null until it was measured. */
  peakFlopsPerSecond: z.number().nullable(),
})
export type About = z.infer<typeof aboutSchema>

export const systemContract = {
  about: oc.output(aboutSchema),
  settings: oc.output(settingsSchema),
  updateSettings: oc.input(settingsChangeSchema).output(settingsSchema),
}
