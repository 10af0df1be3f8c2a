/** How far a run is, and what may be done with it. */
import type { Run } from '#core/shared/runs.ts'

/** Share of the steps made, below 1 until the run is done: the last checkpoint is still to be written and verified. */
export function progressOf(run: Pick<Run, 'status' | 'step' | 'config'>): number {
  return run.status === 'done' ? 1 : Math.min(0.99, run.step / run.config.steps)
}

export const isUnderWay = ({ status }: Pick<Run, 'status'>): boolean => status === 'queued' || status === 'running' || status === 'stopping'
export const canStop = ({ status }: Pick<Run, 'status'>): boolean => status === 'queued' || status === 'running'
export const canResume = ({ status, resumableStep }: Pick<Run, 'status' | 'resumableStep'>): boolean =>
  (status === 'stopped' || status === 'interrupted' || status === 'failed') && resumableStep !== null

const deviceErrors = ['device.lost', 'device.notFound', 'device.missing', 'device.noF16', 'backend.memory', 'backend.tensorTooLarge']
/** Whether its device is why a run ended. A process that died on a card is taken for a driver that crashed. */
export const isDeviceFailure = ({ status, error, config }: Pick<Run, 'status' | 'error' | 'config'>): boolean =>
  (status === 'failed' && error !== null && deviceErrors.includes(error.code)) || (status === 'interrupted' && error?.code === 'jobs.died' && config.device === 'webgpu')
