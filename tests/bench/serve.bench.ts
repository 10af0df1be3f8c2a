/**
 * The API under load: 32 streams at once against one stream, over HTTP, on a small model of the quick start's shape. What is measured is all
 * of it: the client, HTTP, the core, the runner's continuous batching and its kernels. Only texts that the model does not end early are
 * asked for, so that every stream has as many tokens.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Bench } from './measure.ts'
import { median, spreadOf } from './measure.ts'
import { openTinyApi } from '../serve/tiny-api.ts'
import type { Answered, Asking } from './serve-client.ts'

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
    const client = fork(join(import.meta.dirname, 'serve-client.ts'))
    const ask = async (seeds: number[]): Promise<Answered> => {
      client.send({ base, apiKey: served.apiKey!, model: id, seeds, tokens } satisfies Asking)
      return ((await once(client, 'message')) as [Answered])[0]
    }
    let failed = 0
    const rate = async (seeds: number[]): Promise<{ perSecond: number; firstMs: number }> => {
      const all = await ask(seeds)
      failed += all.streams.filter((stream) => stream.failed).length
      return { perSecond: all.streams.reduce((sum, { made }) => sum + made, 0) / all.seconds, firstMs: median(all.streams.map(({ firstMs }) => firstMs)) }
    }
    const candidates = Array.from({ length: 3 * streams }, (_, i) => i)
    const tried = await ask(candidates)
    const seeds = candidates.filter((i) => tried.streams[i]!.made === tokens).slice(0, streams)
    await rate(seeds)
    const [one, many]: [Awaited<ReturnType<typeof rate>>[], Awaited<ReturnType<typeof rate>>[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      one.push(await rate(seeds.slice(0, 1)))
      many.push(await rate(seeds))
    }
    client.kill()
    await served.close()
    const speeds = (all: typeof one): number[] => all.map(({ perSecond }) => perSecond)
    const row = (name: string, values: number[], unit: string, peer: string, ratio: number | null): void => show({ group: 'api', name, value: median(values), unit, peer, ratio, spread: spreadOf(values) })
    row('one stream', speeds(one), 'tokens/s', 'alone', null)
    show({ group: 'api', name: `${streams} streams`, value: median(speeds(many)), unit: 'tokens/s', peer: 'one stream', ratio: Math.max(...speeds(many)) / Math.max(...speeds(one)), medianRatio: median(speeds(many)) / median(speeds(one)), spread: spreadOf(speeds(many)), goal: '4 x' })
    row(`first piece, ${streams} streams`, many.map(({ firstMs }) => firstMs), 'ms', 'alone', null)
    note(`${failed} of ${(rounds + 1) * seeds.length + rounds} streams failed; ${seeds.length} texts of ${tokens} tokens`)
  },
}
