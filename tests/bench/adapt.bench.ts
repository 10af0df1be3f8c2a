/**
 * From a base model to one that answers: the quick start's model, then SFT, DPO and KTO on the built-in sets. Counted on prompts that no stage
 * trained on: exact match of greedy answers, and how often the wanted answer of a pair is the more probable one.
 * `npm run bench -- adapt` makes the base model first (three minutes); `adapt:<library>` takes a library that has it.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { isHeldOut } from '#core/data/conversations/dataset.ts'
import { createEncoder } from '#core/data/conversations/encode.ts'
import { requireTemplate } from '#core/data/conversations/resources.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import { renderChat, type Turn } from '#core/shared/chat-templates.ts'
import { runConfigSchema, type RunEvent } from '#core/shared/runs.ts'
import { loadModel } from '#core/train/weights.ts'
import { answerGreedily } from './answers.ts'
import type { Bench, BenchContext } from './measure.ts'

type Asked = { task: string; prompt: string; answers: string[]; chosen: string; rejected: string }
type Counts = { exact: number; preferred: number; byTask: Record<string, [number, number]> }

const resources = join(import.meta.dirname, '../../resources')
const heldOutShare = 0.1

/** The pairs whose prompt no stage trains on. */
function heldOutPairs(): Asked[] {
  const rows = readFileSync(join(resources, 'adaptation/preferences.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Asked)
  return rows.filter(({ prompt }) => isHeldOut(JSON.stringify([{ role: 'user', content: prompt }]), heldOutShare))
}

/** Exact match and preference of the model in a checkpoint folder. */
async function count(folder: string, asked: readonly Asked[]): Promise<Counts> {
  const backend = createCpuBackend({})
  const { config, weights } = await loadModel(backend, folder)
  const tokenizer = loadTokenizer(join(folder, 'tokenizer.json'))
  const eosId = config.eos_token_id ?? 0
  const template = requireTemplate('olmoe', null, resources)
  const userTurn = ({ prompt }: Asked): Turn => ({ role: 'user', content: prompt })
  const prompts = asked.map((one) => renderChat(template, [userTurn(one)], { reply: true }).flatMap(({ text }) => (text === null ? [eosId] : [...tokenizer.encode(text, { special: 'text' })])))
  const answers = (await answerGreedily(backend, config, weights, prompts, { eosId, maxTokens: 24 })).map((ids) => tokenizer.decode(ids).trim())
  const encode = createEncoder(tokenizer, template, eosId)
  const scorer = createScorer(backend, config, weights)
  const logProb = async (turns: Turn[]): Promise<number> => {
    const { ids, loss } = encode(turns)
    return (await scorer.score(ids)).reduce<number>((sum, value, t) => sum + (loss[t] ? value! : 0), 0)
  }
  const counts: Counts = { exact: 0, preferred: 0, byTask: {} }
  for (const [i, one] of asked.entries()) {
    const isRight = one.answers.includes(answers[i]!)
    const task = (counts.byTask[one.task] ??= [0, 0])
    task[0] += Number(isRight)
    task[1]++
    counts.exact += Number(isRight) / asked.length
    const answer = (content: string): Turn[] => [userTurn(one), { role: 'assistant', content }]
    counts.preferred += Number((await logProb(answer(one.chosen))) > (await logProb(answer(one.rejected)))) / asked.length
  }
  await backend.close()
  return counts
}

type Trained = { checkpointId: string; seconds: number; steps: number }

async function train(core: Core, preset: string, from: string, changes: object = {}): Promise<Trained> {
  const { model } = await core.client.checkpoints.get({ id: from })
  const recipe = JSON.parse(readFileSync(join(resources, 'presets', `${preset}.json`), 'utf8')) as Record<string, unknown>
  const config = runConfigSchema.parse({ ...recipe, ...changes, model, startFrom: { checkpointId: from, optimizer: false }, checkpointEverySteps: 0 })
  const { id } = await core.client.runs.create({ config })
  const events: AsyncIterable<RunEvent> = await core.client.runs.watch({ id })
  for await (const event of events) {
    if (event.type !== 'run' || !['done', 'failed', 'interrupted', 'stopped'].includes(event.run.status)) continue
    if (event.run.status !== 'done') throw new Error(JSON.stringify(event.run.error))
    const [checkpoint] = await core.client.checkpoints.list({ runId: id })
    return { checkpointId: checkpoint!.id, seconds: event.run.seconds, steps: event.run.step }
  }
  throw new Error('the run ended without a word')
}

async function baseOf(core: Core): Promise<string> {
  const known = await baseCheckpoint(core)
  if (known !== null) return known
  await core.client.quickstart.start({ until: 'base' })
  for await (const state of await core.client.quickstart.watch()) if (['done', 'failed'].includes(state.status)) break
  return (await baseCheckpoint(core))!
}

const baseCheckpoint = async (core: Core): Promise<string | null> => (await core.client.quickstart.state()).stages[0]?.checkpointId ?? null

async function ladder({ show, note, only }: BenchContext): Promise<void> {
  const libraryPath = only ?? mkdtempSync(join(tmpdir(), 'moe-adapt-'))
  const core = await startCore(nodeHost({ kind: 'cli', libraryPath, resourcesPath: resources }))
  const asked = heldOutPairs()
  note(`${asked.length} held-out prompts`)
  const tell = async (name: string, checkpointId: string, trained: Trained | null): Promise<void> => {
    const { exact, preferred, byTask } = await count(join(libraryPath, 'checkpoints', checkpointId), asked)
    const took = trained === null ? '' : `, ${trained.steps} steps in ${trained.seconds.toFixed(0)} s`
    const row = { group: 'ADPT', unit: '%', peer: took.slice(2), ratio: null }
    show({ ...row, name: `${name}: exact match`, value: 100 * exact, spread: [100 * exact, 100 * exact], ...(name === 'SFT' && { goal: '> 80' }) })
    show({ ...row, name: `${name}: preference accuracy`, value: 100 * preferred, spread: [100 * preferred, 100 * preferred], ...(name === 'DPO' && { goal: '> 90' }) })
    note(Object.entries(byTask).map(([task, [right, of]]) => `${task} ${right}/${of}`).join(', '))
  }
  const base = await baseOf(core)
  await tell('base', base, null)
  const sft = await train(core, 'quickstart-sft', base)
  await tell('SFT', sft.checkpointId, sft)
  const dpo = await train(core, 'quickstart-dpo', sft.checkpointId)
  await tell('DPO', dpo.checkpointId, dpo)
  const recipe = JSON.parse(readFileSync(join(resources, 'presets/quickstart-dpo.json'), 'utf8')) as { adaptation: object }
  const kto = await train(core, 'quickstart-dpo', sft.checkpointId, { stage: 'kto', name: 'KTO', sequencesPerStep: 32, adaptation: recipe.adaptation })
  await tell('KTO', kto.checkpointId, kto)
  await core.close()
  if (only === undefined) rmSync(libraryPath, { recursive: true, force: true })
}

export const bench: Bench = { title: 'Adaptation: base → SFT → DPO, KTO', run: ladder }
