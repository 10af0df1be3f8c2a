/** Measures the machine: instruction set, threads, multiply-add peak. */
import { cpus } from 'node:os'
import { createCpuBackend } from '#core/backend/cpu.ts'
import type { Job } from '#core/shared/jobs.ts'
import type { JobContext } from './context.ts'

export async function runProbeJob(_job: Extract<Job, { kind: 'probe' }>, context: JobContext): Promise<'done'> {
  const backend = createCpuBackend({})
  const peakFlopsPerSecond = await backend.measurePeak()
  const cpu = { name: cpus()[0]?.model.trim() ?? 'unknown processor', cores: cpus().length, isa: backend.description }
  context.send({ type: 'probe', cpu, peakFlopsPerSecond })
  await backend.close()
  return 'done'
}
