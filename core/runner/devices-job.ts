/**
 * What there is to compute on, and how fast it is. The CPU is told before any driver is asked: one that crashes takes this
 * process along, and what was said before stands.
 */
import type { Job } from '#core/shared/jobs.ts'
import type { JobContext } from './context.ts'
import { describeCards, describeCpu, kernelsOf, measureDevice } from './device.ts'

export async function runDevicesJob(_job: Extract<Job, { kind: 'devices' }>, context: JobContext): Promise<'done'> {
  const cpu = await describeCpu()
  context.send({ type: 'devices', devices: [cpu] })
  context.send({ type: 'devices', devices: [cpu, ...(await describeCards())] })
  return 'done'
}

export async function runMeasureJob(job: Extract<Job, { kind: 'measure' }>, context: JobContext): Promise<'done'> {
  context.send({ type: 'measured', measured: await measureDevice(job.deviceId, kernelsOf(job, context)) })
  return 'done'
}
