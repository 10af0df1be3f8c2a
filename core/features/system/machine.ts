/**
 * What the machine can do, measured by a probe job at most once per start: when something asks, and not beside a training,
 * which would make the numbers wrong. A probe that fails costs the share-of-peak curve, nothing else.
 */
import type { About } from '#core/shared/system.ts'
import { diedError, startJob } from '../jobs/start-job.ts'
import { jobPaths, type Services } from '../services.ts'

export type Measured = { cpu: About['cpu']; peakFlopsPerSecond: number }
export type Machine = {
  /** What has been measured; null until then. */
  known(): Measured | null
  /** Measures if that has not been done; gives the multiply-add peak in FLOP/s, or null when it cannot be had. */
  measure(): Promise<number | null>
  close(): void
}

const boundMs = 20_000

export function createMachine(services: Pick<Services, 'host' | 'store'>): Machine {
  const { host } = services
  let measured: Measured | null = null
  let measuring: Promise<void> | null = null
  let kill: () => void = () => undefined

  async function probe(): Promise<void> {
    const job = startJob(services, { kind: 'probe', paths: jobPaths(host) }, {
      runId: null,
      onMessage(message) {
        if (message.type === 'probe') measured = { cpu: message.cpu, peakFlopsPerSecond: message.peakFlopsPerSecond }
      },
    })
    kill = job.kill
    const bound = setTimeout(job.kill, boundMs)
    const end = await job.ended
    clearTimeout(bound)
    if (measured === null && end.outcome === 'failed') host.log('warning', `the machine was not measured: ${end.error.message}`)
    if (measured === null && end.outcome === 'died') host.log('warning', `the machine was not measured: ${diedError(end).message} ${end.stderr.join(' | ')}`)
  }

  return {
    known: () => measured,
    async measure() {
      measuring ??= probe().catch((error: unknown) => host.log('warning', `the machine was not measured: ${String(error)}`))
      await measuring
      return measured?.peakFlopsPerSecond ?? null
    },
    close: () => kill(),
  }
}
