/**
 * The built-in sample as sources: what resources/sample/fetch.ts wrote into its data folder, described by sample.json.
 * Reads only; fetching belongs to set-up.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'
import { readJsonLines, type Source } from './documents.ts'

export const sampleSchema = z.object({
  format: z.literal('moe-workbench-sample'),
  version: z.literal(1),
  /** sha256 of the recipe (manifest and extractor) that made the data. */
  recipe: z.string(),
  domains: z.array(
    z.object({
      name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
      title: z.string(),
      licence: z.string(),
      source: z.string(),
      documents: z.int(),
      bytes: z.int(),
      sha256: z.string(),
    }),
  ),
})
export type SampleIndex = z.infer<typeof sampleSchema>

export type Sample = { index: SampleIndex; sources: Source[] }

/** Opens the sample in `folder`. Throws AppError `sample.missing` when it was not fetched (whole) yet. */
export function openSample(folder: string): Sample {
  const path = join(folder, 'sample.json')
  const missing = (what: string): AppError =>
    new AppError('sample.missing', `the sample texts are not there: ${what}`, {
      params: { file: path },
      hint: 'Fetch them with: node resources/sample/fetch.ts (about 22 MB, once).',
    })
  if (!existsSync(path)) throw missing(`${path} does not exist`)
  const checked = sampleSchema.safeParse(JSON.parse(readFileSync(path, 'utf8')))
  if (!checked.success) throw missing(`${path}: ${checked.error.issues[0]!.message}`)
  const sources = checked.data.domains.map(({ name, licence }): Source => {
    const file = join(folder, `${name}.jsonl`)
    if (!existsSync(file)) throw missing(`${file} does not exist`)
    return { name, licence, documents: () => readJsonLines(file) }
  })
  return { index: checked.data, sources }
}
