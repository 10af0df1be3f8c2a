/** Before a run starts: gathers what only the machine and the library know, and leaves the sums to core/shared/estimates.ts. */
import { statfsSync } from 'node:fs'
import { estimateRun, type EstimateFacts } from '#core/shared/estimates.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { findCheckpoint } from '#core/store/checkpoints.ts'
import { findMix, listMixes } from '#core/store/mixes.ts'
import { api } from '../api.ts'
import type { Services } from '../services.ts'

export const estimatesRouter = api.estimates.router({
  run: api.estimates.run.handler(async ({ input, context }) => estimateRun(input.config, await factsOf(context, input.config))),
})

async function factsOf({ host, store, planMemory }: Services, config: RunConfig): Promise<EstimateFacts> {
  const checkpoint = config.startFrom === null ? null : findCheckpoint(store, config.startFrom.checkpointId)
  // The sample mix is built when a run first needs it, for the vocabulary that this run has.
  const sample = listMixes(store).find(({ name, vocabularySize }) => name === 'Sample' && vocabularySize === config.model.vocab_size)
  return {
    memory: await planMemory(config),
    diskFreeBytes: freeBytes(host.libraryPath),
    mix: config.mix === 'sample' ? (sample ?? null) : (findMix(store, config.mix) ?? undefined),
    start: config.startFrom === null ? null : checkpoint === null ? undefined : { step: checkpoint.step, valid: checkpoint.valid, isDense: checkpoint.model.num_experts === 0 },
  }
}

function freeBytes(path: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(path)
    return bavail * bsize
  } catch {
    return null
  }
}
