/** `moe quickstart`: sample mix, tokenizer, a small pretrain, SFT and DPO on the built-in sets, and an answer of the model. */
import type { QuickstartStage, QuickstartState } from '#core/shared/quickstart.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import type { Core } from '#core/main.ts'
import type { Command, Context } from './command.ts'
import { onInterrupt, reportRun, withCore } from './core.ts'

type Result = { runId: string; checkpointId: string; tokens: number; seconds: number; validationLoss: { before: number | null; after: number | null }; sample: string; stages: Stage[] }
/** A run of the path; `accuracy`: held-out, of tokens for SFT, of preferences for DPO. */
type Stage = { stage: string; runId: string; checkpointId: string; seconds: number; accuracy: { before: number; after: number } | null }

const samplePrompt = 'The '
const question = 'What colour is the sky?'
const accuracyKeys: Record<Exclude<QuickstartStage, 'base'>, string> = { sft: 'validation/tokenAccuracy', dpo: 'validation/preferenceAccuracy' }

/** Follows the quick start to its end. Throws what made it fail, and quickstart.stopped. */
async function follow(core: Core, until: 'base' | 'dpo', context: Context): Promise<QuickstartState> {
  const release = onInterrupt(() => void core.client.quickstart.stop())
  try {
    await core.client.quickstart.start({ until })
    const states: AsyncIterable<QuickstartState> = await core.client.quickstart.watch()
    for await (const state of states) {
      if (state.status === 'failed') throw state.error ? fromErrorData(state.error) : new Error('the quick start failed')
      if (state.status === 'stopped') {
        throw new AppError('quickstart.stopped', 'the quick start was stopped', { params: { runId: state.runId! }, hint: `Go on with: moe quickstart${until === 'base' ? ' --base' : ''}` })
      }
      if (state.status === 'done') return state
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

async function reportStage(core: Core, { stage, runId, checkpointId }: QuickstartState['stages'][number]): Promise<Stage> {
  const { seconds } = await core.client.runs.get({ id: runId })
  const [accuracy] = stage === 'base' ? [] : await core.client.runs.metrics({ id: runId, keys: [accuracyKeys[stage]] })
  return { stage, runId, checkpointId: checkpointId!, seconds, accuracy: accuracy && accuracy.values.length > 0 ? { before: accuracy.values[0]!, after: accuracy.values.at(-1)! } : null }
}

export const quickstart: Command = {
  name: 'quickstart',
  summary: 'pretrain a small MoE on the sample mix, teach it to answer (SFT) and how (DPO), in about six minutes',
  usage: '[--base]',
  options: { base: { type: 'boolean' } },
  help: { base: 'stop after pretraining' },
  run: ({ values }, context): Promise<Result> =>
    withCore(context, async (core) => {
      const state = await follow(core, values.base === true ? 'base' : 'dpo', context)
      const [base, ...later] = state.stages
      const { runId, tokens, seconds, validationLoss } = await reportRun(core, await core.client.runs.get({ id: base!.runId }))
      const checkpointId = state.checkpointId!
      const sample = later.length === 0 ? samplePrompt + (await writeSample(core, checkpointId, samplePrompt, 0.7)) : `${question} → ${(await writeSample(core, checkpointId, question, 0)).trim()}`
      const stages: Stage[] = []
      for (const stage of later) stages.push(await reportStage(core, stage))
      return { runId, tokens, seconds, validationLoss, checkpointId, sample, stages }
    }),
  words: (r: Result) =>
    `run ${r.runId}: ${r.tokens} tokens in ${r.seconds.toFixed(0)} s\nvalidation loss ${r.validationLoss.before?.toFixed(3)} → ${r.validationLoss.after?.toFixed(3)}${r.stages.map(({ stage, runId, seconds, accuracy }) => `\n${stage} ${runId}: ${seconds.toFixed(0)} s, held-out accuracy ${accuracy?.before.toFixed(3)} → ${accuracy?.after.toFixed(3)}`).join('')}\n\n${r.sample}\n\nChat with it: moe serve, or moe generate --model ${r.checkpointId} --prompt "…"`,
}
