/**
 * llama.cpp as a peer, through node-llama-cpp: no dependency of the project. MOE_LLAMA names a folder it is installed in; without it,
 * or where it cannot be loaded, the peer is absent and said to be.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** The few calls of node-llama-cpp that are used. */
type Sequence = { evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>; evaluate(tokens: number[], options: object): AsyncGenerator<number>; clearHistory(): Promise<void> }
type Context = { getSequence(): Sequence; dispose(): Promise<void> }
type Model = { createContext(options: object): Promise<Context>; dispose(): Promise<void> }
type Module = { getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }> }

export type Peer = {
  readonly name: string
  /** Seconds to take in `ids` with an empty cache. */
  prefill(ids: number[]): Promise<number>
  /** Seconds per token of `count` greedy tokens after one token, the first few not counted. */
  decode(count: number): Promise<number>
  close(): Promise<void>
}

/** Opens a GGUF file; null when there is no llama.cpp. */
export async function openLlama(path: string, threads: number): Promise<Peer | null> {
  const folder = process.env.MOE_LLAMA
  if (folder === undefined) return null
  const installed = join(folder, 'node_modules/node-llama-cpp')
  const { getLlama } = (await import(pathToFileURL(join(installed, 'dist/index.js')).href)) as Module
  const { version } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { version: string }
  const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false, logLevel: 'error' })
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 })
  const context = await model.createContext({ contextSize: 1024, batchSize: 512, threads, sequences: 1 })
  const sequence = context.getSequence()
  return {
    name: `llama.cpp of node-llama-cpp ${version}`,
    async prefill(ids) {
      await sequence.clearHistory()
      const startedAt = performance.now()
      await sequence.evaluateWithoutGeneratingNewTokens(ids)
      return (performance.now() - startedAt) / 1000
    },
    async decode(count) {
      await sequence.clearHistory()
      const warmUp = 4
      const times: number[] = []
      let last = performance.now()
      for await (const _ of sequence.evaluate([1], { temperature: 0, yieldEogToken: true })) {
        const now = performance.now()
        times.push(now - last)
        last = now
        if (times.length >= count + warmUp) break
      }
      const sorted = times.slice(warmUp).sort((a, b) => a - b)
      return sorted[Math.floor(sorted.length / 2)]! / 1000
    },
    async close() {
      await context.dispose()
      await model.dispose()
    },
  }
}
