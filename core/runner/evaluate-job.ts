/** Measures one checkpoint by tasks: results are sent as each task ends. Runs on the packed weights that a chat uses. */
import { join } from 'node:path'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { evaluateTask } from '#core/evaluate/harness.ts'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { createSubject } from '#core/evaluate/subject.ts'
import { readTask } from '#core/formats/task-files.ts'
import type { Job } from '#core/shared/jobs.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import type { JobContext } from './context.ts'

const tellEveryMs = 300

export async function runEvaluateJob(job: Extract<Job, { kind: 'evaluate' }>, context: JobContext): Promise<'done' | 'stopped'> {
  const isStopped = (): boolean => context.stopRequest() !== 'none'
  const tasks = job.taskFiles.map(readTask)
  const total = tasks.reduce((sum, { items }) => sum + Math.min(items.length, job.limit ?? Infinity), 0)
  const folder = join(job.paths.library, 'checkpoints', job.checkpointId)
  const backend = createCpuBackend({})
  const { config, weights } = loadPackedModel(backend, folder)
  const scorer = createPackedScorer(backend, config, weights)
  const subject = createSubject(backend, { config, weights, scorer, tokenizer: loadTokenizer(join(folder, 'tokenizer.json')) })
  let [done, toldAt] = [0, -Infinity]
  const tell = (): void => {
    if (performance.now() - toldAt < tellEveryMs) return
    toldAt = performance.now()
    context.send({ type: 'phase', phase: { phase: 'evaluate', done, total, unit: 'item', etaSeconds: null } })
  }
  tell()
  for (const task of tasks) {
    const result = await evaluateTask(task, subject, { limit: job.limit, isStopped, onItem: () => void (done++, tell()) })
    // Half a task is not comparable with a whole one.
    if (isStopped()) break
    context.send({ type: 'evaluated', result })
  }
  await backend.close()
  return isStopped() ? 'stopped' : 'done'
}
