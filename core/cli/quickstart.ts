/** `moe quickstart`: sample mix, tokenizer, a small pretrain, and a sample of what it writes. */
import type { QuickstartState } from '#core/shared/quickstart.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import type { Core } from '#core/main.ts'
import type { Command, Context } from './command.ts'
import { onInterrupt, reportRun, withCore } from './core.ts'

type Result = { runId: string; checkpointId: string; tokens: number; seconds: number; validationLoss: { before: number | null; after: number | null }; sample: string }

const samplePrompt = 'The '

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

/** What the checkpoint writes after samplePrompt. */
async function writeSample(core: Core, checkpointId: string): Promise<string> {
  const chat = await core.client.chats.create({ checkpointId })
  const events = await core.client.chats.send({ chatId: chat.id, text: samplePrompt, sampling: { temperature: 0.7, topP: 0.95, maxTokens: 60, seed: 1 } })
  let text = ''
  for await (const event of events) if (event.type === 'end') text = event.reply.text
  await core.client.chats.remove({ id: chat.id })
  return samplePrompt + text
}

export const quickstart: Command = {
  name: 'quickstart',
  summary: 'train a small MoE on the sample mix in about three minutes',
  usage: '',
  options: {},
  help: {},
  run: (_input, context): Promise<Result> =>
    withCore(context, async (core) => {
      const state = await follow(core, context)
      if (state.status === 'stopped' || state.runId === null || state.checkpointId === null) {
        throw new AppError('quickstart.stopped', 'the quick start was stopped', { params: state.runId === null ? {} : { runId: state.runId }, hint: state.runId === null ? 'Start it again.' : `Go on with: moe train --resume ${state.runId}` })
      }
      const { runId, tokens, seconds, validationLoss } = await reportRun(core, await core.client.runs.get({ id: state.runId }))
      return { runId, checkpointId: state.checkpointId, tokens, seconds, validationLoss, sample: await writeSample(core, state.checkpointId) }
    }),
  words: (r: Result) =>
    `run ${r.runId}: ${r.tokens} tokens in ${r.seconds.toFixed(0)} s\nvalidation loss ${r.validationLoss.before?.toFixed(3)} → ${r.validationLoss.after?.toFixed(3)}\n\n${r.sample}\n\nChat with it: moe serve, or moe generate --model ${r.checkpointId} --prompt "…"`,
}
