/** The API as its clients see it: the official openai client, what lm-evaluation-harness sends and computes, and what it refuses. */
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { createStopTexts } from '#core/runner/stop-texts.ts'
import { openTinyApi, type TinyApi } from './tiny-api.ts'

let it: TinyApi
let client: OpenAI
beforeAll(async () => {
  it = await openTinyApi()
  client = new OpenAI({ baseURL: it.base, apiKey: it.served.apiKey, maxRetries: 0 })
}, 60_000)
afterAll(() => it.served.close())

const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${it.base}${path}`, { method: 'POST', headers: { Authorization: `Bearer ${it.served.apiKey}`, 'Content-Type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body) })

test('models are listed and found', async () => {
  const { data } = await client.models.list()
  expect(data.map(({ id }) => id)).toContain(it.model)
  expect(await client.models.retrieve(it.model)).toMatchObject({ id: it.model, object: 'model', max_model_len: 64 })
  await expect(client.models.retrieve('nobody')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
})

test('a completion: the same seed gives the same text, streamed or not, and is counted', async () => {
  const body = { model: it.model, prompt: 'The cat', max_tokens: 12, temperature: 0.8, seed: 5 }
  const once = await client.completions.create(body)
  const again = await client.completions.create(body)
  expect(again.choices).toEqual(once.choices)
  expect(once.usage!.prompt_tokens).toBe(it.tokenizer.encode('The cat').length)
  let text = ''
  let usage: unknown = null
  for await (const chunk of await client.completions.create({ ...body, stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.text ?? ''
    usage = chunk.usage ?? usage
  }
  expect(text).toBe(once.choices[0]!.text)
  expect(usage).toEqual(once.usage)
})

test('several prompts with several choices each keep their places', async () => {
  const prompts = ['The cat', '1 + 1 =']
  const both = await client.completions.create({ model: it.model, prompt: prompts, n: 2, max_tokens: 6, seed: 3 })
  expect(both.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3])
  for (const [i, prompt] of prompts.entries()) {
    const alone = await client.completions.create({ model: it.model, prompt, n: 2, max_tokens: 6, seed: 3 })
    expect(both.choices.slice(2 * i, 2 * i + 2).map(({ text }) => text)).toEqual(alone.choices.map(({ text }) => text))
  }
  const ids = await client.completions.create({ model: it.model, prompt: [0, ...it.tokenizer.encode('The cat')], n: 1, max_tokens: 6, seed: 3 })
  expect(ids.choices[0]!.text).toBe(both.choices[0]!.text)
})

test('a chat, streamed and whole; without a template its turns are lines', async () => {
  const body = { model: it.model, messages: [{ role: 'user' as const, content: 'The dog sees' }], max_tokens: 8, temperature: 0 }
  const whole = await client.chat.completions.create({ ...body, logprobs: true, top_logprobs: 2 })
  expect(whole.choices[0]!.message.role).toBe('assistant')
  expect(whole.choices[0]!.logprobs!.content!.every(({ top_logprobs, logprob }) => top_logprobs.length === 2 && top_logprobs[0]!.logprob === logprob)).toBe(true)
  let text = ''
  for await (const { choices } of await client.chat.completions.create({ ...body, stream: true })) text += choices[0]?.delta.content ?? ''
  expect(text).toBe(whole.choices[0]!.message.content)
  expect((await client.completions.create({ model: it.model, prompt: 'The dog sees', max_tokens: 8, temperature: 0 })).choices[0]!.text).toBe(text)
})

test('a stop text ends the reply and is no part of it', async () => {
  const body = { model: it.model, prompt: 'The cat', max_tokens: 30, temperature: 0 }
  const { text } = (await client.completions.create(body)).choices[0]!
  const stop = text.slice(6, 9)
  const { choices: [ended] } = await client.completions.create({ ...body, stop })
  expect(ended).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' })
  const stops = createStopTexts(['</end>'])
  expect([stops.push('a</'), stops.push('e'), stops.push('x</end>b')]).toEqual([{ text: 'a', isStopped: false }, { text: '', isStopped: false }, { text: '</ex', isStopped: true }])
})

test('what lm-evaluation-harness asks and computes: log-likelihoods of continuations given as ids, and whether they are greedy', async () => {
  const contexts = ['The cat', 'The whale follows the horse. The'].map((text) => [...it.tokenizer.encode(text)])
  const greedy = await client.completions.create({ model: it.model, prompt: contexts[0]!, max_tokens: 3, temperature: 0, logprobs: 1 })
  const sequences = [[...contexts[0]!, ...it.tokenizer.encode(greedy.choices[0]!.text)], [...contexts[1]!, ...it.tokenizer.encode(' 7 = 9')]]
  const response = await post('/completions', { model: it.model, prompt: sequences, temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234, echo: true })
  const { choices } = (await response.json()) as OpenAI.Completion
  const backend = createCpuBackend({})
  const { config, weights } = loadPackedModel(backend, it.folder)
  const scorer = createPackedScorer(backend, config, weights)
  for (const [i, choice] of choices.entries()) {
    const { token_logprobs: scores, top_logprobs: tops, tokens, text_offset: offsets } = choice.logprobs!
    expect(scores![0]).toBeNull()
    expect([scores!.length, tops!.length, tokens!.length, offsets!.length]).toEqual(new Array(4).fill(sequences[i]!.length + 1))
    expect(choice.text.startsWith(it.tokenizer.decode(sequences[i]!))).toBe(true)
    expect(offsets!.map((at, t) => choice.text.startsWith(tokens![t]!, at)).every(Boolean)).toBe(true)
    const expected = await scorer.score(sequences[i]!)
    for (const [t, value] of expected.entries()) if (value !== null) expect(scores![t]).toBeCloseTo(value, 4)
    // parse_logprobs of lm_eval/models/openai_completions.py.
    const isGreedy = scores!.slice(contexts[i]!.length, -1).every((value, t) => value === Math.max(...Object.values(tops![contexts[i]!.length + t]!)))
    expect(isGreedy).toBe(i === 0)
  }
  await backend.close()
  const none = await client.completions.create({ model: it.model, prompt: sequences[1]!, max_tokens: 0, logprobs: 1, echo: true })
  expect(none.choices[0]!.logprobs!.token_logprobs).toEqual(choices[1]!.logprobs!.token_logprobs!.slice(0, -1))
  expect(none.usage!.completion_tokens).toBe(0)
})

test('the experts of every token, when asked for', async () => {
  const body = { model: it.model, prompt: 'The cat', max_tokens: 4, echo: true, logprobs: 0, return_routed_experts: true }
  const { choices: [choice] } = (await (await post('/completions', body)).json()) as { choices: [{ logprobs: { tokens: string[] }; routed_experts: number[][][] }] }
  expect(choice.routed_experts).toHaveLength(choice.logprobs.tokens.length)
  for (const layers of choice.routed_experts) {
    expect(layers).toHaveLength(2)
    for (const experts of layers) expect(new Set(experts).size).toBe(2)
  }
})

test('refusals have the shape that clients know', async () => {
  await expect(new OpenAI({ baseURL: it.base, apiKey: 'wrong', maxRetries: 0 }).models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError)
  expect((await fetch(`${it.base}/models`)).status).toBe(401)
  await expect(client.completions.create({ model: 'nobody', prompt: 'a' })).rejects.toMatchObject({ status: 404, code: 'model_not_found', param: 'model' })
  await expect(client.completions.create({ model: it.model, prompt: 'a', max_tokens: 1000 })).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' })
  await expect(client.completions.create({ model: it.model, prompt: [9999] })).rejects.toMatchObject({ status: 400, code: 'invalid_token_id' })
  await expect(client.completions.create({ model: it.model, prompt: 'a', temperature: -1 })).rejects.toMatchObject({ status: 400, param: 'temperature' })
  await expect(client.chat.completions.create({ model: it.model, messages: [] })).rejects.toMatchObject({ status: 400, param: 'messages' })
  await expect(client.completions.create({ model: it.model, prompt: 'a', presence_penalty: 1 })).rejects.toMatchObject({ status: 400, param: 'presence_penalty' })
  expect((await post('/completions', 'not json')).status).toBe(400)
  expect((await post('/completions', '{}', { 'Content-Type': 'text/plain' })).status).toBe(415)
  expect((await post('/completions', `"${'a'.repeat(5 << 20)}"`)).status).toBe(413)
  expect((await post('/nothing', {})).status).toBe(404)
  const answered = await post('/completions', { model: it.model, prompt: 'a', max_tokens: 1 }, { Origin: 'http://other.example' })
  expect([...answered.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([])
})

test('the switch: off until asked for, keys shown once and kept as hashes, removed keys refused', async () => {
  const { apiServer } = it.served.core.client
  expect(await apiServer.state()).toMatchObject({ on: false, url: null, keys: [] })
  const port = 20_000 + Math.floor(Math.random() * 20_000)
  const { url } = await apiServer.update({ on: true, port })
  expect(url).toBe(`http://127.0.0.1:${port}/v1`)
  const { secret, key } = await apiServer.createKey({ name: 'notebook' })
  const own = new OpenAI({ baseURL: url!, apiKey: secret, maxRetries: 0 })
  expect((await own.models.list()).data).not.toEqual([])
  // The key of the API cannot use the workbench.
  expect((await fetch(`${new URL(it.served.url).origin}/rpc/runs/list`, { method: 'POST', headers: { Authorization: `Bearer ${secret}` } })).status).toBe(401)
  expect(JSON.stringify(await apiServer.state())).not.toContain(secret)
  expect((await apiServer.state()).counts.requests).toBeGreaterThan(0)
  await apiServer.removeKey({ id: key.id })
  await expect(own.models.list()).rejects.toMatchObject({ status: 401 })
  expect(await apiServer.update({ on: false })).toMatchObject({ on: false, url: null })
  await expect(own.models.list()).rejects.toBeInstanceOf(OpenAI.APIConnectionError)
})

test('a client that leaves stops its own text; 32 at once are each answered as alone', async () => {
  const body = (i: number) => ({ model: it.model, prompt: `The cat ${i}`, max_tokens: 24, temperature: 0.9, seed: i })
  const leaver = new AbortController()
  const left = client.completions.create({ ...body(99), stream: true }, { signal: leaver.signal }).then(async (stream) => {
    for await (const _ of stream) leaver.abort()
  })
  const streamed = async (i: number): Promise<string> => {
    let text = ''
    for await (const chunk of await client.completions.create({ ...body(i), stream: true })) text += chunk.choices[0]?.text ?? ''
    return text
  }
  const together = await Promise.all(Array.from({ length: 32 }, (_, i) => streamed(i)))
  await left.catch(() => undefined)
  for (const i of [0, 13, 31]) expect(together[i]).toBe((await client.completions.create(body(i))).choices[0]!.text)
  expect((await it.served.core.client.apiServer.state()).counts.underWay).toBe(0)
})
