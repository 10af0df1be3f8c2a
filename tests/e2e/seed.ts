/**
 * Runs for the pages to show, written through the store as the core writes them: a finished one with every series and the
 * load of every expert, one that was interrupted, one that failed. The values follow shapes that training has (a loss that falls and
 * flattens, a router that starts uneven), drawn from a seed; nothing in the product reads them but as numbers.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createRandom } from '#core/shared/random.ts'
import { runConfigSchema, type RunConfig, type StepRecord } from '#core/shared/runs.ts'
import { inTransaction, openStore } from '#core/store/open.ts'
import { insertSteps } from '#core/store/metrics.ts'
import { insertLogLine, insertRun, runNumber, updateRun } from '#core/store/runs.ts'
import { writeSetting } from '#core/store/settings.ts'

export const seeded = { done: 'seededdone', interrupted: 'seededinterrupted', failed: 'seededfailed' }
const domains = ['books', 'code-js', 'code-python', 'docs', 'news', 'papers', 'speeches', 'talks-fr', 'wiki']
const startedAt = Date.UTC(2026, 0, 5, 9, 30)

export function seedRuns(libraryPath: string): void {
  mkdirSync(libraryPath, { recursive: true })
  const store = openStore(join(libraryPath, 'library.sqlite'))
  inTransaction(store, () => {
    seedRun(store, seeded.failed, config('Learning rate too high', { steps: 800, optimizer: { peakLearningRate: 0.05 } }), { steps: 96, status: 'failed', ageMinutes: 2900 })
    seedRun(store, seeded.interrupted, config('32 experts, top-4', { steps: 1200, model: { num_experts: 32, num_experts_per_tok: 4, num_hidden_layers: 8 } }), { steps: 447, status: 'interrupted', ageMinutes: 190 })
    seedRun(store, seeded.done, config('Quick start', { steps: 600 }), { steps: 600, status: 'done', ageMinutes: 24 })
  })
  writeSetting(store, 'quickstart.runId', seeded.done)
  store.close()
}

function config(name: string, { model, ...overrides }: Record<string, unknown>): RunConfig {
  return runConfigSchema.parse({
    name,
    model: {
      vocab_size: 4096, hidden_size: 128, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 4,
      num_experts: 16, num_experts_per_tok: 2, max_position_embeddings: 512, ...(model as object),
    },
    optimizer: { peakLearningRate: 0.003, minLearningRate: 0.0003, warmupSteps: 30 },
    ...overrides,
  })
}

function seedRun(store: ReturnType<typeof openStore>, id: string, recipe: RunConfig, { steps, status, ageMinutes }: { steps: number; status: 'done' | 'interrupted' | 'failed'; ageMinutes: number }): void {
  const createdAt = startedAt - ageMinutes * 60_000
  insertRun(store, { id, config: recipe, status, createdAt, mixId: null })
  const records = recordsOf(recipe, steps, status === 'failed')
  insertSteps(store, runNumber(store, id)!, records)
  const last = records.at(-1)!
  updateRun(store, id, { startedAt: createdAt, endedAt: createdAt + last.elapsedMs, step: last.step, tokens: last.tokens, seconds: last.elapsedMs / 1000, heartbeatAt: createdAt + last.elapsedMs })
  insertLogLine(store, id, { at: createdAt, level: 'info', text: `mix sample: ${domains.length} domains, 4096 tokens in the vocabulary` })
  insertLogLine(store, id, { at: createdAt + 900, level: 'info', text: 'step 0: held-out loss 8.331 before training' })
  if (status === 'interrupted') insertLogLine(store, id, { at: createdAt + last.elapsedMs, level: 'warning', text: `the runner process ended unexpectedly at step ${steps}` })
  if (status === 'failed') {
    insertLogLine(store, id, { at: createdAt + last.elapsedMs, level: 'error', text: `step ${steps}: loss is not finite` })
    updateRun(store, id, { error: { code: 'train.notFinite', message: `step ${steps}: loss is NaN`, params: { step: steps }, hint: 'Resume from the last checkpoint with a lower learning rate.' } })
  }
}

function recordsOf(recipe: RunConfig, steps: number, diverges: boolean): StepRecord[] {
  const random = createRandom(recipe.seed, recipe.name)
  const noise = (): number => random.nextFloat() + random.nextFloat() - 1
  const { num_hidden_layers: layers, num_experts: experts, num_experts_per_tok: perToken } = recipe.model
  const tokensPerStep = recipe.sequenceLength * recipe.sequencesPerStep
  const leaning = Array.from({ length: layers * experts }, () => noise() * 1.6)
  let elapsedMs = 0
  return Array.from({ length: steps }, (_, i): StepRecord => {
    const step = i + 1
    const fall = diverges && step > 60 ? 4.6 + (step - 60) ** 2 / 420 : 3.35 + 5 / (1 + step / 38) ** 0.82
    const speed = 9400 + 500 * noise()
    elapsedMs += (1000 * tokensPerStep) / speed
    const warm = Math.min(1, step / recipe.optimizer.warmupSteps)
    const cosine = recipe.optimizer.minLearningRate + 0.5 * (recipe.optimizer.peakLearningRate - recipe.optimizer.minLearningRate) * (1 + Math.cos((Math.PI * step) / recipe.steps))
    const spread = 0.22 + 1.1 / (1 + step / 70)
    const expertCounts = Array.from({ length: layers }, (_, l) => {
      const weights = Array.from({ length: experts }, (_, e) => Math.exp(spread * leaning[l * experts + e]! + 0.05 * noise()))
      const sum = weights.reduce((a, b) => a + b, 0)
      return weights.map((w) => Math.round((w / sum) * tokensPerStep * perToken))
    }).flat()
    const scalars: Record<string, number> = {
      loss: fall + 0.09 * noise(), loadBalance: 1 + 0.35 / (1 + step / 45) + 0.01 * noise(), routerZ: 6.5 + 3 / (1 + step / 120) + 0.05 * noise(),
      learningRate: warm * cosine, gradNorm: 0.55 + 1.8 / (1 + step / 18) + 0.12 * noise(), tokensPerSecond: speed, peakFraction: 0.31 + 0.015 * noise(),
    }
    if (step === 1 || step % recipe.evaluateEverySteps === 0) {
      const values = domains.map((_, d) => fall + 0.06 + 0.1 * (d - 4) * (1 - Math.exp(-step / 90)))
      domains.forEach((name, d) => (scalars[`validation/${name}`] = values[d]!))
      scalars.validation = values.reduce((a, b) => a + b, 0) / domains.length
    }
    return { step, tokens: step * tokensPerStep, elapsedMs, scalars, expertCounts }
  })
}
