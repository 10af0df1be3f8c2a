/** The task harness against plain references: ranking and its normalisations, few-shot prompts, errors, imports, and a real model's bits per byte. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { findTasks } from '#core/cli/evaluate.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { parseCsv } from '#core/formats/benchmark-files.ts'
import { evaluateTask, renderQuestion } from '#core/evaluate/harness.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { meanOf, ratioOf } from '#core/evaluate/statistics.ts'
import { createSubject, type Subject } from '#core/evaluate/subject.ts'
import { parseTask } from '#core/formats/task-files.ts'
import type { ChoiceItem, Task } from '#core/shared/evaluations.ts'
import { loadModel } from '#core/train/weights.ts'
import { writeSmallModel } from '../formats/small-model.ts'

/** Log-probabilities that depend on both texts and nothing else, and a record of what was asked. */
function fakeSubject(): Subject & { asked: [string, string][] } {
  const asked: [string, string][] = []
  const value = (text: string): number => [...text].reduce((h, c) => (h * 31 + c.codePointAt(0)!) % 1009, 7) / 100
  return {
    asked,
    logProbability: (context, continuation) => {
      asked.push([context, continuation])
      return Promise.resolve(-value(`${context}|${continuation}`) - continuation.length / 3)
    },
    document: (text) => Promise.resolve({ logProbability: -value(text), tokens: text.length }),
    generate: (context) => Promise.resolve(context.includes('2') ? ' 4' : ' 5'),
  }
}

const lines = (...rows: object[]): string => rows.map((row) => JSON.stringify(row)).join('\n')
const items: ChoiceItem[] = Array.from({ length: 12 }, (_, i) => ({ question: `What is ${i}?`, choices: ['one', 'three', 'eleven', `n${i}`], answer: i % 4 }))

test.each(['none', 'character', 'pmi'] as const)('choices are ranked as a loop over definitions ranks them: %s', async (normalisation) => {
  const task = parseTask(lines({ task: 't', title: 'T', kind: 'choice', normalisation }, ...items), 't.jsonl')
  const subject = fakeSubject()
  const result = await evaluateTask(task, subject)
  const right: number[] = []
  for (const { question, choices, answer } of items) {
    const scores: number[] = []
    for (const choice of choices) {
      const sum = await subject.logProbability(`Question: ${question}\nAnswer:`, ` ${choice}`)
      scores.push(normalisation === 'none' ? sum : normalisation === 'character' ? sum / choice.length : sum - (await subject.logProbability('Answer:', ` ${choice}`)))
    }
    right.push(scores.every((score, i) => i === answer || score < scores[answer]!) ? 1 : 0)
  }
  const p = right.reduce((a, b) => a + b) / right.length
  expect(result.metrics['accuracy']!.value).toBeCloseTo(p, 12)
  // Of a share, the sample's standard error has a closed form.
  expect(result.metrics['accuracy']!.standardError).toBeCloseTo(Math.sqrt((p * (1 - p)) / (right.length - 1)), 12)
  expect(result.guessing).toBe(0.25)
  expect(result.best[0]!.margin).toBeGreaterThanOrEqual(result.worst[0]!.margin)
})

test('letters list the choices, and shots are solved items that are not the asked one', async () => {
  const task = parseTask(lines({ task: 't', title: 'T', kind: 'choice', form: 'letter', shots: 1 }, ...items.slice(0, 2)), 't.jsonl')
  const subject = fakeSubject()
  await evaluateTask(task, subject)
  const shown = (n: number): string => `Question: What is ${n}?\n A. one\n B. three\n C. eleven\n D. n${n}\nAnswer:`
  expect(subject.asked[0]).toEqual([`${shown(1)} B\n\n${shown(0)}`, ' A'])
  expect(subject.asked.slice(0, 4).map(([, continuation]) => continuation)).toEqual([' A', ' B', ' C', ' D'])
  expect(renderQuestion(task.header, { question: '$& {choices}', choices: ['x', 'y'] })).toContain('$& {choices}\n A. x')
})

test('exact match is up to white space; a limit takes the first items', async () => {
  const task = parseTask(lines({ task: 't', title: 'T', kind: 'generate' }, { question: '2', answers: ['4'] }, { question: '3', answers: ['4', '6'] }, { question: '22', answers: ['7', '4'] }), 't.jsonl')
  expect((await evaluateTask(task, fakeSubject())).metrics['exactMatch']!.value).toBeCloseTo(2 / 3, 12)
  expect((await evaluateTask(task, fakeSubject(), { limit: 1 })).metrics['exactMatch']).toEqual({ value: 1, standardError: null })
})

test('standard errors: of a mean, and of a ratio that is one when all ratios are equal', () => {
  expect(meanOf([1, 2, 3, 4])).toEqual({ value: 2.5, standardError: Math.sqrt(5 / 3 / 4) })
  expect(ratioOf([2, 4, 6], [1, 2, 3])).toEqual({ value: 2, standardError: 0 })
  // With equal weights a ratio is a mean.
  expect(ratioOf([1, 2, 3, 4], [1, 1, 1, 1]).standardError).toBeCloseTo(Math.sqrt(5 / 3 / 4), 12)
})

test('bits per byte and greedy text of a real model, documents longer than its context included', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-evaluate-'))
  await writeSmallModel(folder)
  const backend = createCpuBackend({})
  const { config, weights } = await loadModel(backend, folder)
  const tokenizer = loadTokenizer(join(folder, 'tokenizer.json'))
  const scorer = createScorer(backend, config, weights)
  const subject = createSubject(backend, { config, weights, tokenizer, scorer })
  const texts = ['The experts of a layer', 'Déjà vu, 数据. '.repeat(60)]
  const result = await evaluateTask(parseTask(lines({ task: 't', title: 'T', kind: 'text' }, ...texts.map((text, i) => ({ text, domain: `d${i}` }))), 't.jsonl'), subject)
  let nats = 0
  for (const text of texts) {
    const ids = [0, ...tokenizer.encode(text)]
    expect(ids.length > config.max_position_embeddings).toBe(text === texts[1])
    for (let from = 0; from + 1 < ids.length; from += config.max_position_embeddings - 1) for (const value of await scorer.score(ids.slice(from, from + config.max_position_embeddings))) nats -= value ?? 0
  }
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  expect(result.metrics['bitsPerByte']!.value).toBeCloseTo(nats / Math.LN2 / bytes, 10)
  expect(result.domains.map(({ name, documents }) => [name, documents])).toEqual([['d0', 1], ['d1', 1]])
  const whole = await subject.generate('The experts', { maxTokens: 8, stop: [] })
  expect(whole.startsWith(await subject.generate('The experts', { maxTokens: 4, stop: [] }))).toBe(true)
  if (whole.length > 2) expect(await subject.generate('The experts', { maxTokens: 8, stop: [whole.slice(1, 3)] })).toBe(whole.slice(0, whole.indexOf(whole.slice(1, 3))))
  await backend.close()
})

test.each([
  ['hellaswag.jsonl', lines({ ctx: 'A man', endings: ['a', 'b', 'c', 'd'], label: '2' }), { question: 'A man', choices: ['a', 'b', 'c', 'd'], answer: 2 }],
  ['arc.jsonl', lines({ question: { stem: 'Why?', choices: [{ text: 'x', label: '1' }, { text: 'y', label: '2' }] }, answerKey: '2' }), { question: 'Why?', choices: ['x', 'y'], answer: 1 }],
  ['arc-hub.jsonl', lines({ question: 'Why?', choices: { text: ['x', 'y'], label: ['A', 'B'] }, answerKey: 'A' }), { question: 'Why?', choices: ['x', 'y'], answer: 0 }],
  ['piqa.jsonl', lines({ goal: 'Open', sol1: 'pull', sol2: 'push', label: 1 }), { question: 'Open', choices: ['pull', 'push'], answer: 1 }],
  ['boolq.jsonl', lines({ question: 'is it', passage: 'It is.', answer: true }), { question: 'It is.\nQuestion: is it?', choices: ['no', 'yes'], answer: 1 }],
  ['mmlu_test.csv', '"What, ""now""?",a,b,c,d,C\n', { question: 'What, "now"?', choices: ['a', 'b', 'c', 'd'], answer: 2 }],
])('%s is read as a task', (file, text, item) => {
  const task = parseTask(text, file)
  expect(task.header).toMatchObject({ kind: 'choice', task: file.replace(/\..*/, '') })
  expect(task.items).toEqual([item])
})

test('what is wrong in a task file is named with its line and field', () => {
  const header = { task: 't', title: 'T', kind: 'choice' }
  expect(() => parseTask(lines(header, { question: 'q', choices: ['a', 'b'], answer: 2 }), 'x.jsonl')).toThrow(/x\.jsonl, line 2: answer/)
  expect(() => parseTask(`${JSON.stringify(header)}\n{`, 'x.jsonl')).toThrow(/line 2: \(line\): is not a JSON object/)
  expect(() => parseTask(lines({ ...header, kind: 'none' }), 'x.jsonl')).toThrow(/line 1: kind/)
  expect(parseCsv('a,"b\nc",d\r\n')).toEqual([['a', 'b\nc', 'd']])
})

test('the built-in tasks can be read, and no item of one asks what another of it answers', () => {
  const tasks = findTasks('all', [join(import.meta.dirname, '../../resources/tasks')])
  expect(tasks.map(({ header }) => header.task).sort()).toEqual(['arithmetic', 'common-facts', 'common-facts-letters', 'opposites', 'short-texts'])
  for (const { items: all } of tasks as Task[]) expect(new Set(all.map((item) => ('question' in item ? item.question : item.text))).size).toBe(all.length)
})
