/**
 * From a row to a conversation, a pair of answers or an answer with a label, by a mapping that is guessed from the fields' usual names.
 * What does not fit is a bad row that names the field. Which of them a stage takes is decided here too: DPO wants pairs, KTO takes pairs as
 * two answers each, SFT takes the wanted answers.
 */
import type { ConversationMapping } from '#core/shared/adaptation.ts'
import { chatRoles, type Turn } from '#core/shared/chat-templates.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Field } from '#core/shared/sources.ts'
import { describeValue, type BadRow } from '../readers/errors.ts'
import { valueAt } from '../readers/mapping.ts'

/** A prompt and an answer; the answer's first turn is the assistant's. */
export type Answer = { prompt: Turn[]; answer: Turn[]; desirable: boolean }
export type Example = { answers: Answer[]; isPair: boolean }
export type MappedExample = { example: Example } | { bad: BadRow }

class Bad extends Error {
  readonly row: BadRow
  constructor(field: string, found: unknown, expected: string) {
    super(expected)
    this.row = { field, found: describeValue(found), expected }
  }
}

const roleNames: Record<string, Turn['role']> = { system: 'system', user: 'user', human: 'user', prompter: 'user', assistant: 'assistant', gpt: 'assistant', model: 'assistant', chatbot: 'assistant' }

function turnsAt(row: unknown, path: string): Turn[] {
  const value = valueAt(row, path)
  if (!Array.isArray(value) || value.length === 0) throw new Bad(path, value, 'a list of turns with role and content')
  return value.map((turn: Record<string, unknown> | null, i) => {
    const [role, content] = [roleNames[String(turn?.role ?? turn?.from).toLowerCase()], turn?.content ?? turn?.value]
    if (role === undefined) throw new Bad(`${path}[${i}].role`, turn?.role ?? turn?.from, `one of ${chatRoles.join(', ')}`)
    if (typeof content !== 'string') throw new Bad(`${path}[${i}].content`, content, 'a text')
    return { role, content }
  })
}

function textAt(row: unknown, path: string): string {
  const value = valueAt(row, path)
  if (typeof value !== 'string') throw new Bad(path, value, 'a text')
  return value
}

/** A conversation without an assistant's turn teaches nothing. */
function requireAnswer(turns: Turn[], path: string): Turn[] {
  if (turns.some(({ role }) => role === 'assistant')) return turns
  throw new Bad(path, turns.map(({ role }) => role), 'at least one turn of the assistant')
}

const asTurns = (row: unknown, path: string, role: Turn['role']): Turn[] => (Array.isArray(valueAt(row, path)) ? turnsAt(row, path) : [{ role, content: textAt(row, path) }])

const sameTurn = (a: Turn | undefined, b: Turn | undefined): boolean => a !== undefined && b !== undefined && a.role === b.role && a.content === b.content

/** Two answers that may begin with their prompt: what both begin with is the prompt, up to their last common turn of the user. */
function pairOf(row: unknown, { prompt, chosen, rejected }: Extract<ConversationMapping, { kind: 'pairs' }>): Example {
  const [better, worse] = [asTurns(row, chosen, 'assistant'), asTurns(row, rejected, 'assistant')]
  let common = 0
  while (sameTurn(better[common], worse[common]) && common < Math.min(better.length, worse.length) - 1) common++
  while (common > 0 && better[common - 1]!.role === 'assistant') common--
  const before = common > 0 ? better.slice(0, common) : prompt === null ? [] : asTurns(row, prompt, 'user')
  if (before.length === 0) throw new Bad(prompt ?? chosen, undefined, 'a prompt, in a field of its own or as the first turns of both answers')
  const answer = (turns: Turn[], path: string, desirable: boolean): Answer => ({ prompt: before, answer: requireAnswer(turns.slice(common), path), desirable })
  return { isPair: true, answers: [answer(better, chosen, true), answer(worse, rejected, false)] }
}

function labelAt(row: unknown, path: string): boolean {
  const value = valueAt(row, path)
  if (value === true || value === 1 || value === 'true' || value === '1') return true
  if (value === false || value === 0 || value === -1 || value === 'false' || value === '0') return false
  throw new Bad(path, value, 'true or false, 1 or 0')
}

function exampleOf(row: unknown, mapping: ConversationMapping): Example {
  switch (mapping.kind) {
    case 'messages': {
      const turns = requireAnswer(turnsAt(row, mapping.messages), mapping.messages)
      const first = turns.findIndex(({ role }) => role === 'assistant')
      return { isPair: false, answers: [{ prompt: turns.slice(0, first), answer: turns.slice(first), desirable: true }] }
    }
    case 'promptResponse': {
      const input = mapping.input === null ? '' : valueAt(row, mapping.input)
      const content = textAt(row, mapping.prompt) + (typeof input === 'string' && input !== '' ? `\n\n${input}` : '')
      const system: Turn[] = mapping.system === null ? [] : [{ role: 'system', content: textAt(row, mapping.system) }]
      return { isPair: false, answers: [{ prompt: [...system, { role: 'user', content }], answer: [{ role: 'assistant', content: textAt(row, mapping.response) }], desirable: true }] }
    }
    case 'pairs':
      return pairOf(row, mapping)
    case 'labelled':
      return { isPair: false, answers: [{ prompt: asTurns(row, mapping.prompt, 'user'), answer: requireAnswer(asTurns(row, mapping.response, 'assistant'), mapping.response), desirable: labelAt(row, mapping.label) }] }
  }
}

/** The example of a row. */
export function mapExample(row: unknown, mapping: ConversationMapping): MappedExample {
  try {
    return { example: exampleOf(row, mapping) }
  } catch (error) {
    if (error instanceof Bad) return { bad: error.row }
    throw error
  }
}

const promptNames = ['prompt', 'instruction', 'question', 'query', 'input']

/** Chooses the fields by their usual names. Throws source.noConversation with the fields that there are. */
export function guessConversations(fields: readonly Field[], file: string): ConversationMapping {
  const named = (names: readonly string[], types: readonly string[] = ['string']): string | null =>
    names.map((name) => fields.find(({ path, types: [type] }) => path.toLowerCase() === name && types.includes(type ?? ''))).find((field) => field !== undefined)?.path ?? null
  const either = ['string', 'list']
  const [chosen, rejected] = [named(['chosen'], either), named(['rejected'], either)]
  const prompt = named(promptNames, either)
  if (chosen !== null && rejected !== null) return { kind: 'pairs', prompt, chosen, rejected }
  const label = named(['label', 'desirable', 'kto_tag'], ['boolean', 'number', 'string'])
  const response = named(['response', 'completion', 'output', 'answer', 'chosen', 'target'], either)
  if (label !== null && prompt !== null && response !== null) return { kind: 'labelled', prompt, response, label }
  const messages = named(['messages', 'conversations', 'conversation'], ['list'])
  if (messages !== null) return { kind: 'messages', messages }
  if (prompt !== null && response !== null && prompt !== response) {
    const input = prompt.toLowerCase() === 'instruction' ? named(['input', 'context']) : null
    return { kind: 'promptResponse', system: named(['system', 'system_prompt']), prompt, input, response }
  }
  const found = fields.map(({ path, types }) => `${path} (${types[0]})`).join(', ') || 'no fields'
  const expected = 'messages; or a prompt with a response; or chosen and rejected; or a prompt, a response and a label'
  throw new AppError('source.noConversation', `${file}: found ${found}, expected ${expected}`, { params: { file, found, expected }, hint: 'Say which fields are what with the mapping.' })
}
