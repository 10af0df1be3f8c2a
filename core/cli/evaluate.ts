/** `moe evaluate`: tasks on a checkpoint, a Hugging Face folder or a packed model. */
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { evaluateTask } from '#core/evaluate/harness.ts'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { createSubject } from '#core/evaluate/subject.ts'
import { readTask, taskFiles, taskFolders } from '#core/formats/task-files.ts'
import { productFolder } from '#core/node-host.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Measure, Task, TaskResult } from '#core/shared/evaluations.ts'
import { numberOption, requiredOption, type Command } from './command.ts'
import { deviceHelp, deviceOptions, dtypeHelp, dtypeOptions, loadModelFor, modelFolder, openBackend } from './model.ts'

type Result = { model: string; tasks: TaskResult[] }

/** Tasks by name or file, separated by commas; "all" are the built-in ones. */
export function findTasks(wanted: string, folders: readonly string[]): Task[] {
  const known = folders.flatMap(taskFiles)
  if (wanted === 'all') return taskFiles(folders[0]!).map(readTask)
  return wanted.split(',').map((name) => {
    const file = known.find((path) => basename(path).replace(/\.[^.]*$/, '') === name) ?? (existsSync(name) ? name : null)
    if (file !== null) return readTask(file)
    const there = known.map((path) => basename(path).replace(/\.[^.]*$/, '')).join(', ')
    throw new AppError('tasks.notFound', `there is no task "${name}"`, { params: { name, there }, hint: `Give a file, or one of: ${there}.` })
  })
}

const say = ({ value, standardError }: Measure): string => `${value.toFixed(4)}${standardError === null ? '' : ` ± ${standardError.toFixed(4)}`}`

export const evaluate: Command = {
  name: 'evaluate',
  summary: 'measure a model by tasks: accuracy, exact match, bits per byte',
  usage: '--model M --tasks all|NAME,…|FILE,…',
  options: { model: { type: 'string' }, tasks: { type: 'string' }, limit: { type: 'string' }, ...dtypeOptions, ...deviceOptions },
  help: {
    model: 'checkpoint id or Hugging Face folder', tasks: 'names, task files, or files of HellaSwag, ARC, PIQA, BoolQ (JSON lines) and MMLU (CSV), separated by commas',
    limit: 'only the first so many items of each', ...dtypeHelp, ...deviceHelp,
  },
  async run({ values }, context): Promise<Result> {
    const tasks = findTasks(requiredOption(values, 'tasks'), taskFolders(join(productFolder, 'resources'), context.library))
    const limit = values.limit === undefined ? null : numberOption(values, 'limit', 1, { min: 1, integer: true })
    const folder = modelFolder(values, context)
    const tokenizer = loadTokenizer(join(folder, 'tokenizer.json'))
    const backend = await openBackend(values)
    const model = await loadModelFor(backend, folder, values)
    const scorer = model.type === 'f32' ? createScorer(backend, model.config, model.weights) : createPackedScorer(backend, model.config, model.weights)
    const subject = createSubject(backend, { ...model, tokenizer, scorer })
    const results: TaskResult[] = []
    for (const task of tasks) {
      let done = 0
      results.push(await evaluateTask(task, subject, { limit, onItem: () => context.progress(`${task.header.task}: ${++done} of ${Math.min(limit ?? Infinity, task.items.length)}`) }))
    }
    await backend.close()
    return { model: requiredOption(values, 'model'), tasks: results }
  },
  words: ({ tasks }: Result) =>
    tasks
      .map(({ task, items, metrics, guessing, domains }) => {
        const parts = Object.entries(metrics).map(([name, measure]) => `${name} ${say(measure)}`)
        const guess = guessing === null ? '' : `, guessing ${guessing.toFixed(4)}`
        return [`${task.padEnd(24)} ${parts.join(', ')}${guess} (${items} items)`, ...domains.map(({ name, bitsPerByte, perplexity }) => `  ${name.padEnd(22)} bitsPerByte ${say(bitsPerByte)}, perplexity ${say(perplexity)}`)].join('\n')
      })
      .join('\n'),
}
