/** A process of its own that builds one mix, as the runner of a job does, so that its memory can be measured: prints one line of JSON. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { productFolder } from '#core/node-host.ts'
import { buildMixOf } from '#core/runner/build-mix.ts'
import { mixSpecSchema } from '#core/shared/mixes.ts'

const [file, library] = process.argv.slice(2) as [string, string]
const startedAt = performance.now()
const seconds: Record<string, number> = {}
let [phase, since] = ['', startedAt]
const next = (name: string): void => {
  if (name === phase) return
  const now = performance.now()
  if (phase !== '') seconds[phase] = (now - since) / 1000
  ;[phase, since] = [name, now]
}
const manifest = await buildMixOf(mixSpecSchema.parse(JSON.parse(readFileSync(file, 'utf8'))), dirname(file), { library, resources: join(productFolder, 'resources') }, { onProgress: next })
next('')
const tokens = manifest.domains.reduce((sum, { trainTokens, validationTokens }) => sum + trainTokens + validationTokens, 0)
console.log(JSON.stringify({ totalSeconds: (performance.now() - startedAt) / 1000, seconds, tokens, peakBytes: process.resourceUsage().maxRSS * 1024 }))
