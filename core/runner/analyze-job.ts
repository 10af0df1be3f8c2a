/** Jobs that look at routing: an analysis into the library, and the routing of one text as it is and under an intervention. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { routeText } from '#core/analyze/text-routing.ts'
import type { Job } from '#core/shared/jobs.ts'
import { loadForAnalysis, runAnalysis, tokenizerOf } from './analysis.ts'
import type { JobContext } from './context.ts'
import { cpuChoice, openDevice } from './device.ts'
import { phaseSender } from './progress.ts'

export async function runAnalyzeJob(job: Extract<Job, { kind: 'analyze' }>, context: JobContext): Promise<'done' | 'stopped'> {
  const { backend } = await openDevice(cpuChoice)
  const analyses = join(job.paths.library, 'analyses')
  mkdirSync(analyses, { recursive: true })
  const tell = phaseSender(context)
  const request = { ...job.request, mixes: join(job.paths.library, 'mixes') }
  const result = await runAnalysis(backend, request, join(analyses, job.analysisId), {
    isStopped: () => context.stopRequest() !== 'none',
    onProgress: (phase, done, total) => tell(phase, done, total, phase === 'ablate' ? 'expert' : 'token'),
  })
  await backend.close()
  if (result === null) return 'stopped'
  context.send({ type: 'analysed', tokens: result.tokens })
  return 'done'
}

export async function runRouteJob(job: Extract<Job, { kind: 'route' }>, context: JobContext): Promise<'done'> {
  const { backend } = await openDevice(cpuChoice)
  const tokenizer = tokenizerOf(job.model)
  const model = await loadForAnalysis(backend, job.model)
  const route = (intervention: typeof job.intervention) => routeText(backend, model, tokenizer, job.text, intervention, job.continueTokens)
  context.send({ type: 'routed', plain: await route(null), changed: job.intervention === null ? null : await route(job.intervention) })
  await backend.close()
  return 'done'
}
