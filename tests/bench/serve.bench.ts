/**
 * The API under load: 32 streams at once against one stream, over HTTP, on a small model of the quick start's shape. What is measured is all
 * of it: the client, HTTP, the core, the runner's continuous batching and its kernels.
 */
import OpenAI from 'openai'
import type { Bench } from './measure.ts'
import { median, spreadOf } from './measure.ts'
import { openTinyApi } from '../serve/tiny-api.ts'

const streams = 32
const tokens = 96
const rounds = 5
/** The shape of the quick start's model; a few steps are training enough to measure by. */
const model = {
  vocab_size: 320, hidden_size: 256, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 4, num_experts: 16, num_experts_per_tok: 4,
  max_position_embeddings: 256,
}

export const bench: Bench = {
  title: `serve: ${streams} streams of ${tokens} tokens at once against one, over HTTP (no peer but itself)`,
  async run({ show, note }) {
    const { served, base, model: id } = await openTinyApi({ model, steps: 4, evaluateEverySteps: 0, checkpointEverySteps: 0 })
    const client = new OpenAI({ baseURL: base, apiKey: served.apiKey, maxRetries: 0 })
    let failed = 0
    const stream = async (i: number): Promise<{ made: number; firstMs: number }> => {
      const startedAt = performance.now()
      let firstMs = 0
      let made = 0
      try {
        for await (const { usage, choices } of await client.completions.create({ model: id, prompt: `The cat ${i}`, max_tokens: tokens, seed: i, stream: true, stream_options: { include_usage: true } })) {
          if (firstMs === 0 && choices.length > 0) firstMs = performance.now() - startedAt
          made += usage?.completion_tokens ?? 0
        }
      } catch {
        failed++
      }
      return { made, firstMs }
    }
    const rate = async (count: number): Promise<{ perSecond: number; firstMs: number }> => {
      const startedAt = performance.now()
      const all = await Promise.all(Array.from({ length: count }, (_, i) => stream(i)))
      return { perSecond: all.reduce((sum, { made }) => sum + made, 0) / ((performance.now() - startedAt) / 1000), firstMs: median(all.map(({ firstMs }) => firstMs)) }
    }
    await rate(streams)
    const [one, many]: [Awaited<ReturnType<typeof rate>>[], Awaited<ReturnType<typeof rate>>[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      one.push(await rate(1))
      many.push(await rate(streams))
    }
    await served.close()
    const speeds = (all: typeof one): number[] => all.map(({ perSecond }) => perSecond)
    const row = (name: string, values: number[], unit: string, peer: string, ratio: number | null): void => show({ group: 'api', name, value: median(values), unit, peer, ratio, spread: spreadOf(values) })
    row('one stream', speeds(one), 'tokens/s', 'alone', null)
    show({ group: 'api', name: `${streams} streams`, value: median(speeds(many)), unit: 'tokens/s', peer: 'one stream', ratio: Math.max(...speeds(many)) / Math.max(...speeds(one)), medianRatio: median(speeds(many)) / median(speeds(one)), spread: spreadOf(speeds(many)), goal: '4 x' })
    row(`first piece, ${streams} streams`, many.map(({ firstMs }) => firstMs), 'ms', 'alone', null)
    note(`${failed} of ${(rounds + 1) * streams + rounds} streams failed`)
  },
}
