/**
 * Task files: JSON lines, the first the task's header, every other an item (core/shared/evaluations.ts). Files of common benchmarks are
 * recognised by their fields and read as tasks. What is wrong is named with its line and field.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import { choiceItemSchema, generateItemSchema, taskHeaderSchema, textItemSchema, type ChoiceItem, type GenerateItem, type Task, type TextItem } from '#core/shared/evaluations.ts'
import { benchmarkOf } from './benchmark-files.ts'

const itemSchemas = { choice: choiceItemSchema, generate: generateItemSchema, text: textItemSchema }

function invalid(file: string, line: number, field: string, problem: string): AppError {
  return new AppError('tasks.invalid', `${file}, line ${line}: ${field}: ${problem}`, { params: { file, line, field, problem }, hint: 'The guide describes the format; correct that line.' })
}

function parseLine(text: string, file: string, line: number): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // Said below, as for any other value that is no object.
  }
  throw invalid(file, line, '(line)', 'is not a JSON object')
}

/** Reads a task, or a benchmark's file as one. Throws AppError `tasks.invalid` or `file.unreadable`. */
export function parseTask(text: string, file: string): Task {
  const benchmark = benchmarkOf(text, basename(file))
  const rows = benchmark ?? text.split('\n').flatMap((line, i) => (line.trim() === '' ? [] : [{ line: i + 1, value: parseLine(line, file, i + 1) }]))
  const [first, ...rest] = rows
  const header = taskHeaderSchema.safeParse(first?.value ?? {})
  if (!header.success) throw invalid(file, first?.line ?? 1, header.error.issues[0]!.path.join('.'), header.error.issues[0]!.message)
  const items = rest.map(({ line, value }) => {
    const item = itemSchemas[header.data.kind].safeParse(value)
    if (!item.success) throw invalid(file, line, item.error.issues[0]!.path.join('.'), item.error.issues[0]!.message)
    return item.data
  })
  if (items.length === 0) throw invalid(file, 1, '(file)', 'has no items')
  return { header: header.data, items } as Task
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new AppError('file.unreadable', `${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  }
}

export const readTask = (path: string): Task => parseTask(readText(path), path)

export type TaskFile = { path: string; sha256: string; task: Task }

/** The folders that tasks are looked for in; of two tasks of one name the library's counts. */
export const taskFolders = (resources: string, library: string): string[] => [join(resources, 'tasks'), join(library, 'tasks')]

/** The tasks of folders by name, in the order of names. A file that is no task is refused, or told to `onUnreadable` and left out. */
export function readTasks(folders: readonly string[], onUnreadable?: (error: AppError) => void): Map<string, TaskFile> {
  const found: [string, TaskFile][] = []
  for (const path of folders.flatMap(taskFiles)) {
    try {
      const text = readText(path)
      const task = parseTask(text, path)
      found.push([task.header.task, { path, sha256: createHash('sha256').update(text).digest('hex'), task }])
    } catch (error) {
      if (!(error instanceof AppError) || onUnreadable === undefined) throw error
      onUnreadable(error)
    }
  }
  return new Map([...new Map(found)].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** The words of each item that must not be learnt: a question with its right answer, or the text. */
export function itemTexts({ header, items }: Task): string[] {
  if (header.kind === 'text') return (items as TextItem[]).map(({ text }) => text)
  if (header.kind === 'generate') return (items as GenerateItem[]).map(({ question, answers }) => `${question} ${answers[0]}`)
  return (items as ChoiceItem[]).map(({ question, choices, answer }) => `${question} ${choices[answer]}`)
}

/** Names of the task files in a folder, none where there is no folder. */
export function taskFiles(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => /\.(jsonl|csv)$/.test(name)).sort().map((name) => join(folder, name))
  } catch {
    return []
  }
}
