/**
 * What training must not share words with: the items of the tasks that models are evaluated by, and the text files that a mix names. A task
 * that is named and is not there, or a file that is none, is refused: leaving it out would be a leak that nobody sees.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { comparedWords } from '#core/data/filters/words.ts'
import { itemTexts, readTasks, taskFolders, type TaskFile } from '#core/formats/task-files.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ComparedTask, FilterSettings } from '#core/shared/filters.ts'
import type { JobPaths } from '#core/shared/jobs.ts'

function readText(base: string, file: string): string {
  const path = resolve(base, file)
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new AppError('file.unreadable', `filters.contamination.texts: ${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  }
}

function chooseTasks(names: 'all' | readonly string[], paths: JobPaths): TaskFile[] {
  const folders = taskFolders(paths.resources, paths.library)
  if (names === 'all') return [...readTasks(folders).values()]
  if (names.length === 0) return []
  const known = readTasks(folders, () => undefined)
  // Their order makes no difference, so it is not the user's.
  return [...new Set(names)].sort().map((name) => {
    const file = known.get(name)
    if (file) return file
    const there = [...known.keys()].join(', ')
    throw new AppError('tasks.notFound', `filters.contamination.tasks: there is no task "${name}"`, { params: { name, there }, hint: `There are: ${there}.` })
  })
}

/** Reads them all; files in `texts` are relative to `base`. Throws file.unreadable, tasks.invalid, tasks.notFound. */
export function readEvaluationTexts(filters: FilterSettings, base: string, paths: JobPaths): { evaluationTexts: string[]; comparedTasks: ComparedTask[] } {
  const { contamination } = filters
  if (contamination === null) return { evaluationTexts: [], comparedTasks: [] }
  const tasks = chooseTasks(contamination.tasks, paths)
  const isCompared = (text: string): boolean => comparedWords(text).length >= contamination.ngram
  return {
    evaluationTexts: [...contamination.texts.map((file) => readText(base, file)), ...tasks.flatMap(({ task }) => itemTexts(task))],
    comparedTasks: tasks.map(({ task, sha256 }) => ({ task: task.header.task, sha256, items: task.items.length, compared: itemTexts(task).filter(isCompared).length })),
  }
}
