/** Several texts at once: each the very same as alone, whoever joins and leaves; in line, in turns, cancelled, refused. */
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createScheduler, type GeneratedToken, type GenerationRequest, type Scheduler } from '#core/model/scheduler.ts'
import { createSequences } from '#core/model/sequences.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'

const backend = createCpuBackend({ threads: 2 })
const { config, weights } = loadPackedModel(backend, join(import.meta.dirname, '../fixtures/oracle/tiny/model'), 'q8')
const capacity = 400
const open = (count: number): Scheduler => createScheduler(backend, config, weights, { count, capacity, now: () => performance.now() })

afterAll(() => backend.close())

const idsOf = (length: number, salt: number): number[] => Array.from({ length }, (_, i) => (i * 31 + salt * 17 + 3) % config.vocab_size)
const requests: GenerationRequest[] = Array.from({ length: 12 }, (_, i) => ({
  prompt: idsOf([3, 1, 300, 17, 40, 130, 9, 2, 64, 25, 11, 5][i]!, i),
  maxTokens: 5 + ((i * 7) % 23),
  sampling: { temperature: [0, 0.8, 1.5][i % 3]!, topP: i % 2 === 0 ? 1 : 0.9, seed: i },
  alternatives: i % 4,
  routing: i % 2 === 1,
}))

async function collect(scheduler: Scheduler, request: GenerationRequest): Promise<GeneratedToken[]> {
  const tokens: GeneratedToken[] = []
  await scheduler.submit(request, (token) => tokens.push(token)).done
  return tokens
}

async function alone(request: GenerationRequest): Promise<GeneratedToken[]> {
  const scheduler = open(1)
  const tokens = await collect(scheduler, request)
  await scheduler.close()
  return tokens
}

describe('together', () => {
  test('twelve texts in five caches are, bit for bit, what each is alone', async () => {
    const expected: GeneratedToken[][] = []
    for (const request of requests) expected.push(await alone(request))
    const scheduler = open(5)
    const found = await Promise.all(requests.map((request) => collect(scheduler, request)))
    await scheduler.close()
    expect(found).toEqual(expected)
    expected.forEach((tokens, i) => expect(tokens).toHaveLength(requests[i]!.maxTokens))
    expect(expected[3]![0]!.layers).toHaveLength(config.num_hidden_layers)
    expect(expected[2]![0]!.layers).toEqual([])
    expect(expected[3]![0]!.alternatives).toHaveLength(3)
  })

  test('a greedy text is what steps of one sequence give', async () => {
    const sequences = createSequences(backend, config, weights, { count: 1, capacity })
    let logits = await sequences.feed(0, requests[3]!.prompt)
    const ids: number[] = []
    for (let i = 0; i < 6; i++) {
      ids.push(logits.indexOf(Math.max(...logits)))
      logits = await sequences.feed(0, [ids.at(-1)!])
    }
    sequences.release()
    expect((await alone({ ...requests[3]!, maxTokens: 6, sampling: { temperature: 0, topP: 1, seed: 0 } })).map(({ id }) => id)).toEqual(ids)
  })

  test('a text that joins gets its first token while a long prompt is fed', async () => {
    const scheduler = open(2)
    const order: string[] = []
    const long = scheduler.submit({ ...requests[0]!, prompt: idsOf(390, 1), maxTokens: 2 }, () => order.push('long'))
    const short = scheduler.submit({ ...requests[0]!, maxTokens: 2 }, () => order.push('short'))
    await Promise.all([long.done, short.done])
    expect(order).toEqual(['short', 'short', 'long', 'long'])
    await scheduler.close()
  })
})

test('a text ends before a stop id, and its cache serves what begins alike', async () => {
  const scheduler = open(2)
  const request = { ...requests[3]!, maxTokens: 20 }
  const whole = await collect(scheduler, request)
  const stop = whole[4]!.id
  const first = whole.findIndex(({ id }) => id === stop)
  const generation = scheduler.submit({ ...request, stopIds: [stop] }, () => undefined)
  expect(await generation.done).toMatchObject({ end: 'stop', tokens: first })
  const prompt = [...request.prompt, ...whole.slice(0, 3).map(({ id }) => id)]
  expect((await collect(scheduler, { ...request, prompt, maxTokens: 1, sampling: { ...request.sampling, temperature: 0 } })).length).toBe(1)
  await scheduler.close()
})

test('cancelled texts end at once: one that runs, one within its token, one in line', async () => {
  const scheduler = open(1)
  const seen: number[] = []
  const running = scheduler.submit({ ...requests[0]!, maxTokens: 300 }, ({ id }) => {
    seen.push(id)
    if (seen.length === 3) running.cancel()
  })
  const inLine = scheduler.submit(requests[1]!, () => seen.push(-1))
  const next = scheduler.submit(requests[4]!, () => undefined)
  inLine.cancel()
  expect(await running.done).toMatchObject({ end: 'cancelled', tokens: 3 })
  expect(await inLine.done).toMatchObject({ end: 'cancelled', tokens: 0 })
  expect(await next.done).toMatchObject({ end: 'length', tokens: requests[4]!.maxTokens })
  expect(seen).not.toContain(-1)
  await scheduler.close()
})

test('what does not fit is refused, and closing ends what runs', async () => {
  const scheduler = open(1)
  expect(() => scheduler.submit({ ...requests[0]!, prompt: idsOf(390, 0), maxTokens: 11 }, () => undefined)).toThrow(expect.objectContaining({ code: 'tokens.tooLong' }))
  const generation = scheduler.submit({ ...requests[0]!, maxTokens: 300 }, () => undefined)
  await scheduler.close()
  expect(await generation.done).toMatchObject({ end: 'cancelled' })
})
