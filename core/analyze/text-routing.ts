/** The routing of one text, token by token, as it is or under an intervention, and what the model writes after it (greedy). */
import type { Backend } from '#core/backend/backend.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import type { Weights } from '#core/model/parameters.ts'
import type { Intervention, RoutedText } from '#core/shared/analyses.ts'
import { AppError } from '#core/shared/errors.ts'
import { moeLayers, type ModelConfig } from '#core/shared/models.ts'
import { relativeEntropy } from './counters.ts'
import { biasesOf, withTopK } from './intervene.ts'
import { createRoutedPass, routingShape } from './pass.ts'

export type Words = { encode(text: string): Iterable<number>; decode(ids: readonly number[]): string; createDecoder(): { push(id: number): string } }

/** Positions of a pass are a multiple of this: a handful of shapes for any text. */
const step = 32

/** Routes `text` after the end-of-text token, which itself is not shown. Throws AppError tokens.tooLong, and what an intervention may throw. */
export async function routeText(backend: Backend, model: { config: ModelConfig; weights: Weights | PackedWeights }, words: Words, text: string, intervention: Intervention | null, continueTokens: number): Promise<RoutedText> {
  const config = withTopK(model.config, intervention?.topK ?? null)
  const ids = [config.eos_token_id ?? 0, ...words.encode(text)]
  const limit = config.max_position_embeddings
  if (ids.length > limit) throw new AppError('tokens.tooLong', `${ids.length} tokens, the model's context is ${limit}`, { params: { found: ids.length, expected: limit }, hint: 'Split the text into shorter pieces.' })
  const room = Math.min(limit, Math.ceil((ids.length + continueTokens) / step) * step)
  const pass = await createRoutedPass(backend, config, model.weights, { sequence: room, sequences: 1, head: true, bias: intervention !== null })
  try {
    if (intervention !== null) for (const [layer, bias] of biasesOf(config, intervention).entries()) await pass.setBias(layer, bias)
    const show = async (): Promise<Awaited<ReturnType<typeof pass.read>>> => {
      await pass.write(Int32Array.from({ length: room }, (_, t) => ids[t] ?? 0), Int32Array.from({ length: room }, (_, t) => ids[t + 1] ?? -1))
      await pass.run()
      return pass.read()
    }
    const seen = await show()
    const routed = toRoutedText(config, ids, seen, words)
    const given = ids.length
    // Attention is causal: tokens after the last one change nothing before it, so one shape serves the whole continuation.
    let next = seen.predicted[ids.length - 1]!
    while (ids.length < given + continueTokens && ids.length < room && next !== config.eos_token_id) {
      ids.push(next)
      next = (await show()).predicted[ids.length - 1]!
    }
    return { ...routed, continuation: words.decode(ids.slice(given)) }
  } finally {
    pass.release()
  }
}

function toRoutedText(config: ModelConfig, ids: readonly number[], seen: Awaited<ReturnType<Awaited<ReturnType<typeof createRoutedPass>>['read']>>, words: Words): RoutedText {
  const { experts: E, topK: K, layers: L } = routingShape(config)
  const decoder = words.createDecoder()
  const shown = ids.slice(1)
  const tokens = shown.map((id, i) => {
    const t = i + 1
    const layers = Array.from({ length: L }, (_, layer) => ({
      experts: Array.from(seen.experts[layer]!.subarray(t * K, (t + 1) * K)),
      weights: Array.from(seen.gate[layer]!.subarray(t * K, (t + 1) * K)),
    }))
    return { id, text: decoder.push(id), layers, loss: seen.loss[t - 1]!, entropy: seen.logits.map((logits) => relativeEntropy(logits, t * E, E)) }
  })
  const loss = tokens.length > 0 ? tokens.reduce((sum, token) => sum + token.loss, 0) / tokens.length : null
  return { layers: moeLayers(config), experts: E, topK: K, tokens, loss, continuation: '' }
}
