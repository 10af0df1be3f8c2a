/** Which number stands for a task in tables and curves. */
import type { TaskResult } from '#core/shared/evaluations.ts'

const main = { choice: 'accuracy', generate: 'exactMatch', text: 'bitsPerByte' } as const

export const mainMetric = ({ kind }: Pick<TaskResult, 'kind'>): (typeof main)[TaskResult['kind']] => main[kind]
