/** The record of what was changed of a run under way: in the store, in its log, and told to watchers. */
import type { Intervention } from '#core/shared/run-control.ts'
import { insertIntervention } from '#core/store/run-records.ts'
import { insertLogLine, runNumber } from '#core/store/runs.ts'
import type { Services } from '../services.ts'

export function recordIntervention({ store, events }: Pick<Services, 'store' | 'events'>, runId: string, intervention: Intervention): void {
  insertIntervention(store, runNumber(store, runId)!, intervention)
  events.publish({ runId, event: { type: 'intervention', intervention } })
  const text = wordsFor(intervention)
  if (text === null) return
  const line = { at: intervention.at, level: 'info', text } as const
  insertLogLine(store, runId, line)
  events.publish({ runId, event: { type: 'log', line } })
}

function wordsFor({ step, what }: Intervention): string | null {
  switch (what.kind) {
    case 'learningRate':
      return `Learning rate times ${what.factor} from step ${step} on`
    case 'stopAt':
      return `Will stop at step ${what.step}; the schedule stays`
    case 'rollBack':
      return `Rolled back from step ${what.fromStep} to ${step - 1}${what.skippedStep === null ? '' : `; the data of ${what.skippedSteps} steps from ${what.skippedStep} on is skipped`}`
    case 'device':
      return null
  }
}
