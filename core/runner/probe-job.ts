/** Measures the machine: instruction set, threads, multiply-add peak. */
import { cpus } from 'node:os'
import { createCpuBackend } from '#core/backend/cpu.ts'
import type { Job } from '#core/shared/jobs.ts'
import type { JobContext } from './context.ts'

/** As people write them. */
const instructionSetNames = { avx512vnni: 'AVX-512 VNNI', avx512: 'AVX-512', avx2: 'AVX2', portable: 'portable' } as const

export async function runProbeJob(_job: Extract<Job, { kind: 'probe' }>, context: JobContext): Promise<'done'> {
  const backend = createCpuBackend({})
  const peakFlopsPerSecond = await backend.measurePeak()
  const cpu = { name: cpus()[0]?.model.trim() ?? 'unknown processor', cores: cpus().length, isa: instructionSetNames[backend.isa] }
  context.send({ type: 'probe', cpu, peakFlopsPerSecond })
  await backend.close()
  return 'done'
}
