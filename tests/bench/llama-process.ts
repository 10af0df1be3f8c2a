/**
 * The process that llama.cpp runs in (llama.ts): the model is opened, then requests come as messages. Times are llama.cpp's own
 * (llama_perf_context_print), so the binding's cost for each token is not counted against it.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** The few calls of node-llama-cpp that are used. */
type Sequence = { evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>; evaluate(tokens: number[], options: object): AsyncGenerator<number>; clearHistory(): Promise<void> }
type Context = { getSequence(): Sequence; printTimings(): Promise<void> }
type Model = { createContext(options: object): Promise<Context> }
type Module = { getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }> }

export type LlamaRequest = { prefill: number[] } | { decode: number }
export type LlamaAnswer = { version: string } | { seconds: number }

const [installed, path, threads] = process.argv.slice(2) as [string, string, string]
const lines: string[] = []
const { getLlama } = (await import(pathToFileURL(join(installed, 'dist/index.js')).href)) as Module
const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false, logLevel: 'info', logger: (_level: string, text: string) => lines.push(text) })
const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 })
const context = await model.createContext({ contextSize: 1024, batchSize: 512, threads: Number(threads), sequences: 1, performanceTracking: true })
const sequence = context.getSequence()

/** Seconds for every token of what was run since the last call, by the line of that name. */
async function timing(name: 'prompt eval' | 'eval'): Promise<{ seconds: number; tokens: number }> {
  lines.length = 0
  await context.printTimings()
  const pattern = new RegExp(`print: +${name} time = +([\\d.]+) ms / +(\\d+)`)
  for (let tries = 0; tries < 100; tries++) {
    const found = pattern.exec(lines.join('\n'))
    if (found) return { seconds: Number(found[1]) / 1000, tokens: Number(found[2]) }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`llama.cpp did not say its ${name} time`)
}

async function answer(request: LlamaRequest): Promise<number> {
  await sequence.clearHistory()
  if ('prefill' in request) {
    await sequence.evaluateWithoutGeneratingNewTokens(request.prefill)
    return (await timing('prompt eval')).seconds
  }
  let made = 0
  for await (const _ of sequence.evaluate([1], { temperature: 0, yieldEogToken: true })) if (++made >= request.decode) break
  const { seconds, tokens } = await timing('eval')
  return seconds / tokens
}

process.on('message', (request: LlamaRequest) => void answer(request).then((seconds) => process.send!({ seconds } satisfies LlamaAnswer)))
process.send!({ version: (JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { version: string }).version } satisfies LlamaAnswer)
