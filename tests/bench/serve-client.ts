/**
 * The client of the serve benchmark, in a process of its own as clients are: asks for the streams of the seeds that come as a message,
 * all at once, and answers with what each gave.
 */
import OpenAI from 'openai'

export type Asking = { base: string; apiKey: string; model: string; seeds: number[]; tokens: number }
export type Stream = { made: number; firstMs: number; failed: boolean }
export type Answered = { seconds: number; streams: Stream[] }

async function stream({ base, apiKey, model, tokens }: Asking, seed: number): Promise<Stream> {
  const client = new OpenAI({ baseURL: base, apiKey, maxRetries: 0 })
  const startedAt = performance.now()
  let [made, firstMs] = [0, 0]
  try {
    const pieces = await client.completions.create({ model, prompt: `The cat ${seed}`, max_tokens: tokens, seed, stream: true, stream_options: { include_usage: true } })
    for await (const { usage, choices } of pieces) {
      if (firstMs === 0 && choices.length > 0) firstMs = performance.now() - startedAt
      made += usage?.completion_tokens ?? 0
    }
    return { made, firstMs, failed: false }
  } catch {
    return { made, firstMs, failed: true }
  }
}

process.on('message', (asking: Asking) => {
  const startedAt = performance.now()
  void Promise.all(asking.seeds.map((seed) => stream(asking, seed))).then((streams) => process.send!({ seconds: (performance.now() - startedAt) / 1000, streams } satisfies Answered))
})
