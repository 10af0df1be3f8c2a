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
