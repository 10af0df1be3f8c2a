/** The stream of what happens to runs. In a queue that is not being read, only the newest state of a run and all steps as one event wait. */
import { createHub, type Hub } from '../events.ts'
import type { RunNews } from '../services.ts'

export const createRunNews = (): Hub<RunNews> => createHub(enqueue)

/** Merges with the last event of the same kind and run, if only a `run` event came in between: those say nothing of order. */
function enqueue(queue: RunNews[], news: RunNews): void {
  for (const index of [queue.length - 1, queue.length - 2]) {
    const waiting = queue[index]
    if (waiting === undefined) break
    const merged = waiting.runId === news.runId ? merge(waiting, news) : null
    if (merged !== null) {
      queue[index] = merged
      return
    }
    if (waiting.event.type !== 'run') break
  }
  queue.push(news)
}

function merge({ runId, event: earlier }: RunNews, { event: later }: RunNews): RunNews | null {
  if (earlier.type === 'run' && later.type === 'run') return { runId, event: later }
  if (earlier.type === 'steps' && later.type === 'steps') return { runId, event: { type: 'steps', steps: [...earlier.steps, ...later.steps] } }
  return null
}
