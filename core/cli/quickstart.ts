/** `moe quickstart`: sample mix, tokenizer, a small pretrain, SFT and DPO on the built-in sets, and an answer of the model. */
import { join } from 'node:path'
import { z } from 'zod'
import { productFolder } from '#core/node-host.ts'
import type { QuickstartState } from '#core/shared/quickstart.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import { runConfigSchema } from '#core/shared/runs.ts'
import type { Core } from '#core/main.ts'
import { readJson, type Command, type Context } from './command.ts'
import { followRun, onInterrupt, reportRun, withCore } from './core.ts'

type Result = { runId: string; checkpointId: string; tokens: number; seconds: number; validationLoss: { before: number | null; after: number | null }; sample: string; stages: Stage[] }
/** A run of the path; `accuracy`: held-out, of tokens for SFT, of preferences for DPO. */
type Stage = { stage: string; runId: string; checkpointId: string; seconds: number; accuracy: { before: number; after: number } | null }

const samplePrompt = 'The '
const question = 'What is the opposite of cold?'
const accuracyKeys: Record<string, string> = { sft: 'validation/tokenAccuracy', dpo: 'validation/preferenceAccuracy' }

async function follow(core: Core, context: Context): Promise<QuickstartState> {
  const release = onInterrupt(() => void core.client.quickstart.stop())
  try {
    await core.client.quickstart.start()
    const states: AsyncIterable<QuickstartState> = await core.client.quickstart.watch()
    for await (const state of states) {
      if (state.status === 'failed') throw state.error ? fromErrorData(state.error) : new Error('the quick start failed')
      if (state.status === 'done' || state.status === 'stopped') return state
      if (!state.phase) continue
      const { phase, done, total, unit } = state.phase
      const eta = state.etaSeconds === null ? '' : ` · ${Math.round(state.etaSeconds)} s left`
      context.progress(`${phase}: ${total === null ? done : `${done} of ${total}`} ${unit}${eta}`)
    }
    throw new Error('the quick start ended without a word')
  } finally {
    release()
  }
}

/** What the checkpoint writes after `prompt`. */
async function writeSample(core: Core, checkpointId: string, prompt: string, temperature: number): Promise<string> {
  const chat = await core.client.chats.create({ checkpointId })
  const events = await core.client.chats.send({ chatId: chat.id, text: prompt, sampling: { temperature, topP: 0.95, maxTokens: 60, seed: 1 } })
  let text = ''
  for await (const event of events) if (event.type === 'end') text = event.reply.text
  await core.client.chats.remove({ id: chat.id })
  return text
}

/** Adapts `from` by the recipe of the workbench's own file. */
async function adapt(core: Core, stage: string, from: string, context: Context): Promise<Stage> {
  const { model } = await core.client.checkpoints.get({ id: from })
  const recipe = readJson(join(productFolder, 'resources', 'presets', `quickstart-${stage}.json`), z.record(z.string(), z.unknown()))
  const created = await core.client.runs.create({ config: runConfigSchema.parse({ ...recipe, model, startFrom: { checkpointId: from, optimizer: false } }) })
  const run = await followRun(core, created.id, context)
  const { runId, checkpointId, seconds } = await reportRun(core, run)
  if (run.status !== 'done' || checkpointId === null) throw new AppError('quickstart.stopped', 'the quick start was stopped', { params: { runId }, hint: `Go on with: moe train --resume ${runId}` })
  const [accuracy] = await core.client.runs.metrics({ id: runId, keys: [accuracyKeys[stage]!] })
  return { stage, runId, checkpointId, seconds, accuracy: accuracy && accuracy.values.length > 0 ? { before: accuracy.values[0]!, after: accuracy.values.at(-1)! } : null }
}

export const quickstart: Command = {
  name: 'quickstart',
  summary: 'pretrain a small MoE on the sample mix, teach it to answer (SFT) and how (DPO), in about five minutes',
  usage: '[--base]',
  options: { base: { type: 'boolean' } },
  help: { base: 'stop after pretraining' },
  run: ({ values }, context): Promise<Result> =>
    withCore(context, async (core) => {
      const state = await follow(core, context)
      if (state.status === 'stopped' || state.runId === null || state.checkpointId === null) {
        throw new AppError('quickstart.stopped', 'the quick start was stopped', { params: state.runId === null ? {} : { runId: state.runId }, hint: state.runId === null ? 'Start it again.' : `Go on with: moe train --resume ${state.runId}` })
      }
      const { runId, tokens, seconds, validationLoss } = await reportRun(core, await core.client.runs.get({ id: state.runId }))
      const base = { runId, tokens, seconds, validationLoss }
      if (values.base === true) return { ...base, checkpointId: state.checkpointId, sample: samplePrompt + (await writeSample(core, state.checkpointId, samplePrompt, 0.7)), stages: [] }
      const sft = await adapt(core, 'sft', state.checkpointId, context)
      const dpo = await adapt(core, 'dpo', sft.checkpointId, context)
      return { ...base, checkpointId: dpo.checkpointId, sample: `${question} → ${(await writeSample(core, dpo.checkpointId, question, 0)).trim()}`, stages: [sft, dpo] }
    }),
  words: (r: Result) =>
    `run ${r.runId}: ${r.tokens} tokens in ${r.seconds.toFixed(0)} s\nvalidation loss ${r.validationLoss.before?.toFixed(3)} → ${r.validationLoss.after?.toFixed(3)}${r.stages.map(({ stage, runId, seconds, accuracy }) => `\n${stage} ${runId}: ${seconds.toFixed(0)} s, held-out accuracy ${accuracy?.before.toFixed(3)} → ${accuracy?.after.toFixed(3)}`).join('')}\n\n${r.sample}\n\nChat with it: moe serve, or moe generate --model ${r.checkpointId} --prompt "…"`,
}
