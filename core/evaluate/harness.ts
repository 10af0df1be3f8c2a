/**
 * Runs a task on a model. Choices are ranked by Σ log p of what follows the question: the choice's text in the cloze form, its letter in the
 * letter form; normalised by nothing, by characters, or by the same sum after a bare prompt (pmi). Texts are measured in bits per byte,
 * which no tokenizer changes. Knows nothing of files, processes or stores.
 */
import { argmax } from '#core/model/sampling.ts'
import type { ChoiceItem, Example, GenerateItem, Measure, Task, TaskHeader, TaskResult, TextItem } from '#core/shared/evaluations.ts'
import { meanOf, ratioOf } from './statistics.ts'
import type { Subject } from './subject.ts'

export type EvaluateOptions = { /** Only so many items, from the first. */ limit?: number | null; onItem?(): void; isStopped?(): boolean }

const shownExamples = 5
const letterOf = (i: number): string => String.fromCharCode(65 + i)

/** The question as the model is asked, without what answers it. */
export function renderQuestion(header: TaskHeader, item: { question: string; choices?: readonly string[] }): string {
  const list = header.form === 'letter' && item.choices ? item.choices.map((choice, i) => ` ${letterOf(i)}. ${choice}\n`).join('') : ''
  const template = header.form === 'letter' && !header.question.includes('{choices}') ? header.question.replace('{question}', '{question}\n{choices}').replace('{choices}\n', '{choices}') : header.question
  // A function as the replacement: a "$" in a question is no pattern.
  return template.replace(/\{(question|choices)\}/g, (_, name: string) => (name === 'question' ? item.question : list))
}

const answerTexts = (header: TaskHeader, { choices }: ChoiceItem): string[] => choices.map((choice, i) => ` ${header.form === 'letter' ? letterOf(i) : choice}`)

/** Solved items before item `index`: the first others of the task. */
function shotsBefore<T>(items: readonly T[], index: number, count: number, solved: (item: T) => string): string {
  return items.filter((_, i) => i !== index).slice(0, count).map((item) => `${solved(item)}\n\n`).join('')
}

function withExamples(examples: Example[]): Pick<TaskResult, 'best' | 'worst'> {
  const sorted = [...examples].sort((a, b) => b.margin - a.margin)
  return { best: sorted.slice(0, shownExamples), worst: sorted.slice(-shownExamples).reverse() }
}

const emptyOf = ({ task, title, kind, form, normalisation, shots }: TaskHeader, items: number): TaskResult => ({
  task, title, kind, form, normalisation, shots, items, metrics: {}, guessing: null, byNormalisation: {}, domains: [], best: [], worst: [],
})

async function runChoice(header: TaskHeader, all: readonly ChoiceItem[], items: readonly ChoiceItem[], subject: Subject, { onItem, isStopped }: EvaluateOptions): Promise<TaskResult> {
  const right: Record<string, number[]> = { none: [], character: [], ...(header.normalisation === 'pmi' && { pmi: [] }) }
  const examples: Example[] = []
  const solved = (item: ChoiceItem): string => renderQuestion(header, item) + answerTexts(header, item)[item.answer]!
  for (const [i, item] of items.entries()) {
    if (isStopped?.()) break
    const context = shotsBefore(all, i, header.shots, solved) + renderQuestion(header, item)
    const texts = answerTexts(header, item)
    const sums: number[] = []
    const bare: number[] = []
    for (const text of texts) {
      sums.push(await subject.logProbability(context, text))
      if (header.normalisation === 'pmi') bare.push(await subject.logProbability(header.unconditional, text))
    }
    const scores: Record<string, number[]> = { none: sums, character: sums.map((value, c) => value / (texts[c]!.length - 1)), pmi: sums.map((value, c) => value - bare[c]!) }
    for (const [name, list] of Object.entries(right)) list.push(Number(argmax(scores[name]!) === item.answer))
    const mine = scores[header.normalisation]!
    const margin = mine[item.answer]! - Math.max(...mine.filter((_, c) => c !== item.answer))
    examples.push({ question: item.question, expected: item.choices[item.answer]!, given: item.choices[argmax(mine)]!, correct: margin > 0, margin })
    onItem?.()
  }
  const byNormalisation: Record<string, Measure> = Object.fromEntries(Object.entries(right).map(([name, list]) => [name, meanOf(list)]))
  const guessing = items.reduce((total, { choices }) => total + 1 / choices.length, 0) / items.length
  return { ...emptyOf(header, examples.length), metrics: { accuracy: byNormalisation[header.normalisation]! }, guessing, byNormalisation, ...withExamples(examples) }
}

/** Answers are compared without white space around them. */
const isMatch = (given: string, answers: readonly string[]): boolean => answers.some((answer) => answer.trim() === given.trim())

async function runGenerate(header: TaskHeader, all: readonly GenerateItem[], items: readonly GenerateItem[], subject: Subject, { onItem, isStopped }: EvaluateOptions): Promise<TaskResult> {
  const examples: Example[] = []
  const solved = (item: GenerateItem): string => `${renderQuestion(header, item)} ${item.answers[0]!}`
  for (const [i, item] of items.entries()) {
    if (isStopped?.()) break
    const given = await subject.generate(shotsBefore(all, i, header.shots, solved) + renderQuestion(header, item), header)
    const correct = isMatch(given, item.answers)
    examples.push({ question: item.question, expected: item.answers[0]!, given, correct, margin: Number(correct) })
    onItem?.()
  }
  return { ...emptyOf(header, examples.length), metrics: { exactMatch: meanOf(examples.map(({ correct }) => Number(correct))) }, ...withExamples(examples) }
}

type Measured = { domain: string; bytes: number; tokens: number; nats: number }

/** Bits per byte and perplexity per token as ratios of sums, with the standard errors of ratios. */
function measuresOf(documents: readonly Measured[]): { bitsPerByte: Measure; perplexity: Measure } {
  const perToken = ratioOf(documents.map(({ nats }) => nats), documents.map(({ tokens }) => tokens))
  const value = Math.exp(perToken.value)
  return {
    bitsPerByte: ratioOf(documents.map(({ nats }) => nats / Math.LN2), documents.map(({ bytes }) => bytes)),
    // Of exp(x) the error is exp(x) times that of x.
    perplexity: { value, standardError: perToken.standardError === null ? null : value * perToken.standardError },
  }
}

async function runText(header: TaskHeader, items: readonly TextItem[], subject: Subject, { onItem, isStopped }: EvaluateOptions): Promise<TaskResult> {
  const documents: Measured[] = []
  const examples: Example[] = []
  for (const { text, domain } of items) {
    if (isStopped?.()) break
    const { logProbability, tokens } = await subject.document(text)
    const bytes = new TextEncoder().encode(text).length
    documents.push({ domain, bytes, tokens, nats: -logProbability })
    examples.push({ question: text.slice(0, 300), expected: domain, given: '', correct: true, margin: logProbability / Math.LN2 / bytes })
    onItem?.()
  }
  const domains = [...new Set(documents.map(({ domain }) => domain))].map((name) => {
    const own = documents.filter(({ domain }) => domain === name)
    return { name, documents: own.length, bytes: own.reduce((total, { bytes }) => total + bytes, 0), ...measuresOf(own) }
  })
  return { ...emptyOf(header, documents.length), metrics: measuresOf(documents), domains, ...withExamples(examples) }
}

/** Runs a task; stopped early, the result is of the items that were done. */
export async function evaluateTask(task: Task, subject: Subject, options: EvaluateOptions = {}): Promise<TaskResult> {
  const limit = options.limit ?? undefined
  if (task.header.kind === 'choice') return runChoice(task.header, task.items as ChoiceItem[], task.items.slice(0, limit) as ChoiceItem[], subject, options)
  if (task.header.kind === 'generate') return runGenerate(task.header, task.items as GenerateItem[], task.items.slice(0, limit) as GenerateItem[], subject, options)
  return runText(task.header, task.items.slice(0, limit) as TextItem[], subject, options)
}
