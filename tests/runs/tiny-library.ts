/**
 * A library and a resources folder made for one test: a sample of a few short texts in two domains, and the recipe of a model so
 * small that a step takes milliseconds. Everything that runs on them is the real thing: core, runner process, kernels, files.
 */
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRandom } from '#core/shared/random.ts'
import { runConfigSchema, type RunConfig } from '#core/shared/runs.ts'

export type TinyLibrary = { libraryPath: string; resourcesPath: string }

/** Sentences drawn from a small grammar, so that there is something to learn. */
function sentences(stream: string, subjects: string[], verbs: string[], count: number): string {
  const random = createRandom(1, stream)
  const pick = (words: string[]): string => words[random.nextBelow(words.length)]!
  return Array.from({ length: count }, () => `The ${pick(subjects)} ${pick(verbs)} the ${pick(subjects)}.`).join(' ')
}

/** The built-in sets and recipes of SFT and DPO, as tiny; the chat template is the real one. */
function writeAdaptation(resources: string): void {
  mkdirSync(join(resources, 'adaptation'))
  mkdirSync(join(resources, 'chat-templates'))
  copyFileSync(join(import.meta.dirname, '../../resources/chat-templates/olmoe.json'), join(resources, 'chat-templates/olmoe.json'))
  const numbers = Array.from({ length: 100 }, (_, i) => i)
  const lines = (rows: object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('')
  writeFileSync(join(resources, 'adaptation/instructions.jsonl'), lines(numbers.map((i) => ({ prompt: `${i}?`, response: `${i}!` }))))
  writeFileSync(join(resources, 'adaptation/preferences.jsonl'), lines(numbers.map((i) => ({ prompt: `${i}?`, chosen: `${i}!`, rejected: `not ${i}` }))))
  for (const [stage, data] of [['sft', 'instructions'], ['dpo', 'preferences']] as const) {
    const preset = {
      name: `Quick start · ${stage}`, stage, sequenceLength: 48, sequencesPerStep: 8, sequencesPerMicroBatch: 4, steps: 1, loadBalanceWeight: 0, routerZWeight: 0, threads: 2,
      optimizer: { peakLearningRate: stage === 'sft' ? 5e-3 : 1e-3, minLearningRate: 0, schedule: 'linear', weightDecay: 0 }, evaluateEverySteps: 20, checkpointEverySteps: 20,
      adaptation: { data: [data], epochs: 3, warmupShare: 0.1, heldOutShare: 0.2 },
    }
    writeFileSync(join(resources, `presets/quickstart-${stage}.json`), JSON.stringify(preset))
  }
}

/** A fresh library folder beside resources that hold a tiny sample. */
export function makeTinyLibrary(): TinyLibrary {
  const root = mkdtempSync(join(tmpdir(), 'moe-tiny-'))
  const data = join(root, 'resources/sample/data')
  mkdirSync(data, { recursive: true })
  mkdirSync(join(root, 'resources/presets'))
  writeFileSync(join(root, 'resources/presets/quickstart.json'), JSON.stringify(tinyConfig({ name: 'Quick start' })))
  writeAdaptation(join(root, 'resources'))
  const domains = [
    { name: 'animals', texts: Array.from({ length: 40 }, (_, i) => sentences(`a${i}`, ['cat', 'dog', 'whale', 'horse'], ['sees', 'follows', 'likes'], 60)) },
    { name: 'numbers', texts: Array.from({ length: 40 }, (_, i) => Array.from({ length: 120 }, (_, n) => `${i + n} + ${n} = ${i + 2 * n}`).join('\n')) },
  ]
  const described = domains.map(({ name, texts }) => {
    const lines = texts.map((text, i) => `${JSON.stringify({ id: `${name}-${i}`, text, source: 'made for tests' })}\n`).join('')
    writeFileSync(join(data, `${name}.jsonl`), lines)
    return { name, title: name, licence: 'CC0-1.0', source: 'made for tests', documents: texts.length, bytes: texts.join('').length, sha256: createHash('sha256').update(lines).digest('hex') }
  })
  writeFileSync(join(data, 'sample.json'), JSON.stringify({ format: 'moe-workbench-sample', version: 1, recipe: 'f'.repeat(64), domains: described }))
  return { libraryPath: join(root, 'library'), resourcesPath: join(root, 'resources') }
}

/** A recipe for the tiny sample. */
export function tinyConfig(overrides: Record<string, unknown> = {}): RunConfig {
  return runConfigSchema.parse({
    name: 'tiny',
    model: {
      vocab_size: 320, hidden_size: 32, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2,
      num_experts: 8, num_experts_per_tok: 2, max_position_embeddings: 64, initializer_range: 0.1,
    },
    sequenceLength: 32,
    sequencesPerStep: 4,
    sequencesPerMicroBatch: 2,
    steps: 400,
    optimizer: { peakLearningRate: 5e-3, minLearningRate: 5e-4, warmupSteps: 20 },
    evaluateEverySteps: 50,
    evaluationSequences: 4,
    checkpointEverySteps: 60,
    threads: 2,
    ...overrides,
  })
}
