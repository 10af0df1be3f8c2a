/**
 * Where a stage starts: a checkpoint's files into the trainer of a new run (core/shared/runs.ts says what each stage is). A pure reading:
 * the checkpoint stays as it is, and the same checkpoint and recipe give the same start. A resume is none of these (checkpoint.ts).
 */
import { join } from 'node:path'
import { elementCount, type Backend, type Tensor } from '#core/backend/backend.ts'
import { huggingFaceParts, initialValues, declareWeights, type Weights } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import type { RunConfig, StartFrom } from '#core/shared/runs.ts'
import { readVerified } from './checkpoint.ts'
import type { LoopState } from './loop.ts'
import type { Trainer } from './trainer.ts'
import { openModelSource } from './model-source.ts'
import { loadMoments, loadWeightsInto } from './weights.ts'

/** Throws AppError `run.otherModel` naming the first tensor in which a checkpoint's model differs from the run's. */
function requireSameTensors(found: ModelConfig, expected: ModelConfig, checkpointId: string): void {
  const parts = (config: ModelConfig): string[] => huggingFaceParts(config, declareWeights(config)).flatMap((tensor) => tensor.parts.map(({ name, shape }) => `${name} [${shape.join(', ')}]`))
  const [has, needs] = [new Set(parts(found)), new Set(parts(expected))]
  const odd = [...needs].find((part) => !has.has(part)) ?? [...has].find((part) => !needs.has(part))
  if (odd === undefined) return
  throw new AppError('run.otherModel', `checkpoint ${checkpointId} holds another model: ${odd} is in only one of the two`, {
    params: { checkpoint: checkpointId, tensor: odd },
    hint: 'Keep the width, layers, experts and norms of the checkpoint; other settings may change.',
  })
}

/** Replaces each element by normal(0, deviation) with probability `share`. */
export function addNoise(values: Float32Array, share: number, deviation: number, seed: number, stream: string): Float32Array {
  if (share === 0) return values
  const random = createRandom(seed, stream)
  return values.map((value) => (random.nextFloat() < share ? random.nextNormal() * deviation : value))
}

/** Name in a dense checkpoint of what becomes the part `name` of a sparse one: every expert is its layer's feed-forward network. */
export function denseNameOf(name: string): string {
  return name.replace(/\.mlp\.(experts\.\d+|shared_experts)\./, '.mlp.')
}

/**
 * Sparse upcycling (arXiv 2212.05055; reference §4.1.5): all weights of the dense checkpoint in `folder`, its feed-forward network in every
 * expert, a new router. `noise` of the weights of each routed expert are drawn anew.
 */
export async function loadUpcycled(backend: Backend, folder: string, config: ModelConfig, weights: Weights, { seed, noise }: { seed: number; noise: number }): Promise<void> {
  const source = openModelSource(folder)
  try {
    const routers = new Set<Tensor>(weights.layers.flatMap(({ moe }) => (moe ? [moe.router] : [])))
    for (const { tensor, parts } of huggingFaceParts(config, weights)) {
      if (routers.has(tensor)) {
        const values = new Float32Array(elementCount(tensor))
        initialValues(config, tensor, seed)(values)
        await backend.write(tensor, values)
        continue
      }
      for (const { name, shape, elementOffset } of parts) {
        const share = name.includes('.mlp.experts.') ? noise : 0
        await backend.write(tensor, addNoise(source.read(denseNameOf(name), shape), share, config.initializer_range, seed, `upcycle/${name}`), elementOffset)
      }
    }
  } finally {
    source.close()
  }
}

/** Puts the start of `config`'s stage in place and returns where the run stands. `folder` holds checkpoint `from.checkpointId`. */
export async function startFromCheckpoint(backend: Backend, trainer: Trainer, config: RunConfig, from: StartFrom, folder: string): Promise<LoopState> {
  const state = await readVerified(folder)
  if (config.stage === 'upcycle') {
    await loadUpcycled(backend, folder, config.model, trainer.weights, { seed: config.seed, noise: from.noise })
    return { step: 0, tokens: 0, seconds: 0, loaderPosition: 0, earlierSteps: 0 }
  }
  requireSameTensors(state.config.model, config.model, from.checkpointId)
  if (config.stage === 'fork' && state.step >= config.steps) {
    throw new AppError('run.startsAtEnd', `checkpoint ${from.checkpointId} is at step ${state.step}, the run ends at ${config.steps}`, {
      params: { found: state.step, expected: config.steps },
      hint: 'A fork keeps its step: let it end later, or continue instead of forking.',
    })
  }
  await loadWeightsInto(backend, folder, config.model, trainer.weights)
  if (from.optimizer) await loadMoments(backend, config.model, trainer.moments, join(folder, 'optimizer.safetensors'))
  // The moments' bias is corrected by the steps that they have seen.
  const seen = from.optimizer ? state.earlierSteps + state.step : 0
  if (config.stage !== 'fork') return { step: 0, tokens: 0, seconds: 0, loaderPosition: 0, earlierSteps: seen }
  return { step: state.step, tokens: state.tokens, seconds: state.seconds, loaderPosition: state.loaderPosition, earlierSteps: seen - state.step }
}
