/** Conversations from rows to tokens: formats found by looking, bad rows named, the loss exactly on assistant turns, packing, held-out prompts, damage found. */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fillDataset, isHeldOut, openDataset } from '#core/data/conversations/dataset.ts'
import { createEncoder, encodeInstances, type Instance } from '#core/data/conversations/encode.ts'
import { openConversations } from '#core/data/conversations/files.ts'
import { previewConversations } from '#core/data/conversations/preview.ts'
import { readTemplates, requireTemplate } from '#core/data/conversations/resources.ts'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { adaptationSchema, type AdaptationStage } from '#core/shared/adaptation.ts'
import { renderChat, segmentsToText, toJinja, type Turn } from '#core/shared/chat-templates.ts'
import { generate } from '#resources/adaptation/generate.ts'

const resources = join(import.meta.dirname, '../../resources')
const folder = mkdtempSync(join(tmpdir(), 'moe-conversations-'))
const olmoe = requireTemplate('olmoe', null, resources)
const tokenizer = await trainTokenizer([readFileSync(join(resources, 'adaptation/instructions.jsonl'), 'utf8')], { vocabularySize: 400 })
const eosId = tokenizer.eosId!

function write(name: string, rows: readonly object[]): string {
  const path = join(folder, name)
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  return path
}

async function instancesOf(stage: AdaptationStage, path: string, skipBadRows = 0): Promise<(Instance & { promptText: string })[]> {
  const { examples } = await openConversations([path], null, skipBadRows)
  const instances: (Instance & { promptText: string })[] = []
  for await (const instance of encodeInstances(stage, examples(), createEncoder(tokenizer, olmoe, eosId))) instances.push(instance)
  return instances
}

const lossText = ({ ids, loss }: { ids: number[]; loss: boolean[] }): string => tokenizer.decode(ids.filter((_, t) => loss[t]))

test("OLMoE's format, and the loss on what follows an assistant's header", () => {
  const turns: Turn[] = [{ role: 'system', content: 'Be kind.' }, { role: 'user', content: 'Hi {eos}' }, { role: 'assistant', content: 'Hello' }, { role: 'user', content: 'Bye' }, { role: 'assistant', content: 'Farewell' }]
  const segments = renderChat(olmoe, turns)
  expect(segmentsToText(segments, '<|endoftext|>')).toBe('<|endoftext|><|system|>\nBe kind.\n<|user|>\nHi {eos}\n<|assistant|>\nHello<|endoftext|>\n<|user|>\nBye\n<|assistant|>\nFarewell<|endoftext|>')
  expect(segments.filter(({ loss }) => loss).map(({ text }) => text)).toEqual(['Hello', null, '\n', 'Farewell', null])
  expect(segmentsToText(renderChat(olmoe, turns.slice(0, 2), { reply: true }), '<eos>')).toBe('<eos><|system|>\nBe kind.\n<|user|>\nHi {eos}\n<|assistant|>\n')
  const { ids, loss } = createEncoder(tokenizer, olmoe, eosId)(turns)
  expect(tokenizer.decode(ids)).toBe(segmentsToText(segments, '<|endoftext|>'))
  expect(lossText({ ids, loss })).toBe('Hello<|endoftext|>\nFarewell<|endoftext|>')
  expect(toJinja(olmoe)).toContain("{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}")
  expect(readTemplates(resources).map(({ name }) => name)).toEqual(['chatml', 'olmoe', 'plain'])
  expect(() => requireTemplate('nobody', null, resources)).toThrow(/no template nobody/)
})

test('a special token that a person writes stays text', () => {
  const { ids } = createEncoder(tokenizer, olmoe, eosId)([{ role: 'user', content: 'say <|endoftext|>' }, { role: 'assistant', content: 'no' }])
  expect(ids.filter((id) => id === eosId)).toHaveLength(2)
})

test.each([
  ['messages', [{ messages: [{ role: 'user', content: 'a' }, { role: 'assistant', content: 'b' }] }], { kind: 'messages', messages: 'messages' }],
  ['sharegpt', [{ conversations: [{ from: 'human', value: 'a' }, { from: 'gpt', value: 'b' }] }], { kind: 'messages', messages: 'conversations' }],
  ['alpaca', [{ instruction: 'a', input: '', output: 'b' }], { kind: 'promptResponse', prompt: 'instruction', input: 'input', response: 'output' }],
  ['prompts', [{ prompt: 'a', completion: 'b' }], { kind: 'promptResponse', prompt: 'prompt', response: 'completion', input: null }],
])('%s is found by looking', async (name, rows, mapping) => {
  const path = write(`${name}.jsonl`, rows)
  expect((await openConversations([path], null, 0)).mapping).toMatchObject(mapping)
  const [instance] = await instancesOf('sft', path)
  expect(tokenizer.decode(instance!.sequences[0]!.ids)).toBe('<|endoftext|><|user|>\na\n<|assistant|>\nb<|endoftext|>')
})

test('pairs as texts or as turns; DPO takes pairs, KTO two answers of each beside a mismatched one, SFT the chosen', async () => {
  const turns = (answer: string): Turn[] => [{ role: 'user', content: 'q1' }, { role: 'assistant', content: answer }]
  const path = write('pairs.jsonl', [{ prompt: 'ignored', chosen: turns('good'), rejected: turns('bad') }, { prompt: 'ignored', chosen: [{ role: 'user', content: 'q2' }, { role: 'assistant', content: 'fine' }], rejected: [{ role: 'user', content: 'q2' }, { role: 'assistant', content: 'poor' }] }])
  const texts = write('texts.jsonl', [{ prompt: 'q1', chosen: 'good', rejected: 'bad' }, { prompt: 'q2', chosen: 'fine', rejected: 'poor' }])
  const answers = (instances: Instance[]): string[][] => instances.map(({ sequences }) => sequences.map(lossText).map((text) => text.replace('<|endoftext|>', '')))
  for (const file of [path, texts]) {
    expect(answers(await instancesOf('dpo', file))).toEqual([['good', 'bad'], ['fine', 'poor']])
    expect(answers(await instancesOf('sft', file))).toEqual([['good'], ['fine']])
    const kto = await instancesOf('kto', file)
    expect(answers(kto)).toEqual([['good', 'fine'], ['bad', 'fine'], ['fine', 'good'], ['poor', 'good']])
    expect(kto.map(({ desirable }) => desirable)).toEqual([true, false, true, false])
    expect(tokenizer.decode(kto[0]!.sequences[1]!.ids)).toContain('q1\n<|assistant|>\nfine')
  }
  const labelled = write('labelled.jsonl', [{ prompt: 'q', completion: 'a', label: false }, { prompt: 'r', completion: 'b', label: true }])
  expect((await instancesOf('kto', labelled)).map(({ desirable }) => desirable)).toEqual([false, true])
})

test('a bad row is named by file, row and field, unless it may be skipped; fields that fit nothing are listed', async () => {
  const path = write('bad.jsonl', [{ prompt: 'a', response: 'b' }, { prompt: 'c', response: 7 }, { prompt: 'd', response: 'e' }])
  await expect(instancesOf('sft', path)).rejects.toMatchObject({ code: 'source.badRow', params: { file: 'bad.jsonl', row: 2, field: 'response', found: 'number 7' } })
  expect(await instancesOf('sft', path, 1)).toHaveLength(2)
  const turns = write('turns.jsonl', [{ messages: [{ role: 'user', content: 'a' }, { role: 'robot', content: 'b' }] }])
  await expect(instancesOf('sft', turns)).rejects.toMatchObject({ params: { row: 1, field: 'messages[1].role' } })
  await expect(instancesOf('sft', write('odd.jsonl', [{ foo: 'x' }]))).rejects.toMatchObject({ code: 'source.noConversation', params: { found: 'foo (string)' } })
})

test('the dataset gives back what was encoded, held-out prompts apart; packing fills sequences; a cut file is found', async () => {
  const path = write('many.jsonl', Array.from({ length: 60 }, (_, i) => ({ prompt: `question ${i % 40}`, response: `answer ${i}` })))
  const all = await instancesOf('sft', path)
  const build = async (name: string, packing: boolean) => {
    const target = join(folder, name)
    mkdirSync(target)
    await fillDataset(target, (async function* () { yield* all })(), { stage: 'sft', recipe: 'r', maxTokens: 96, packing, heldOutShare: 0.25 }, () => undefined)
    return openDataset(target)
  }
  const dataset = await build('plain', false)
  const { instances } = dataset.manifest
  expect(instances.train + instances.heldOut).toBe(60)
  const expected = all.filter(({ promptText }) => !isHeldOut(promptText, 0.25))
  expect(instances.train).toBe(expected.length)
  expect(instances.heldOut).toBeGreaterThan(0)
  expected.forEach(({ sequences }, i) => expect(dataset.read('train', i).sequences[0]).toMatchObject(sequences[0]!))
  expect((await build('again', false)).hash).toBe(dataset.hash)
  const packed = await build('packed', true)
  expect(packed.manifest.instances.train).toBeLessThan(instances.train / 2)
  const joined = Array.from({ length: packed.manifest.instances.train }, (_, i) => packed.read('train', i).sequences[0]!)
  expect(joined.flatMap(({ ids }) => ids)).toEqual(expected.flatMap(({ sequences }) => sequences[0]!.ids))
  expect(Math.max(...joined.map(({ ids }) => ids.length))).toBeLessThanOrEqual(96)
  truncateSync(join(folder, 'again', 'train.tokens'), 100)
  await expect(openDataset(join(folder, 'again'))).rejects.toMatchObject({ code: 'adaptation.damaged' })
  mkdirSync(join(folder, 'none'))
  await expect(fillDataset(join(folder, 'none'), (async function* () { yield* all })(), { stage: 'sft', recipe: 'r', maxTokens: 8, packing: false, heldOutShare: 0 }, () => undefined)).rejects.toMatchObject({ code: 'adaptation.noData', params: { tooLong: 60 } })
})

test('the built-in sets are what their generator writes, and are shown as a run would see them', async () => {
  const sets = generate()
  for (const name of ['instructions', 'preferences'] as const) {
    const digest = (text: string): string => createHash('sha256').update(text).digest('hex')
    expect(digest(readFileSync(join(resources, 'adaptation', `${name}.jsonl`), 'utf8'))).toBe(digest(sets[name]))
  }
  const settings = adaptationSchema.parse({ data: ['preferences'] })
  const { mapping, instances } = await previewConversations({ stage: 'dpo', paths: [join(resources, 'adaptation/preferences.jsonl')], settings, tokenizer, template: olmoe, eosId, sequenceLength: 64 })
  expect(mapping).toMatchObject({ kind: 'pairs', prompt: 'prompt', chosen: 'chosen', rejected: 'rejected' })
  for (const { sequences } of instances) for (const sequence of sequences) expect(sequence.map(({ loss }) => loss)).toEqual([false, true])
})
