/** Which weights AdamW's decay reaches: all, or not those of norms, or not the input embedding (reference §2). */
import { expect, test } from 'vitest'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { elementCount } from '#core/backend/backend.ts'
import { listWeights } from '#core/model/parameters.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { variant } from './variant-configs.ts'

const [learningRate, weightDecay] = [0.5, 0.25]

/** Names of the weights that a step without gradients leaves as they are; the others must have shrunk by the decay and by nothing else. */
async function spared(scopes: { decayNorms?: boolean; decayEmbeddings?: boolean }): Promise<string[]> {
  const backend = createReferenceBackend()
  const trainer = await createTrainer(backend, {
    model: variant('shared experts'), sequenceLength: 4, sequencesPerMicroBatch: 1, microBatchesPerStep: 1, loadBalanceWeight: 0, routerZWeight: 0,
    optimizer: { betas: [0.9, 0.95], eps: 1e-8, weightDecay, clip: 0, ...scopes },
  })
  const weights = listWeights(trainer.weights)
  for (const tensor of weights) await backend.write(tensor, new Float32Array(elementCount(tensor)).fill(1))
  await trainer.update(learningRate, 1)
  const left: string[] = []
  for (const tensor of weights) {
    const values = [...(await backend.read(tensor))]
    expect(new Set(values).size, tensor.name).toBe(1)
    if (values[0] === 1) left.push(tensor.name)
    else expect(values[0], tensor.name).toBeCloseTo(1 - learningRate * weightDecay, 12)
  }
  return left
}

test('decay reaches everything, as in OLMoE, unless the recipe spares norms or the embedding', async () => {
  expect(await spared({})).toEqual([])
  expect(await spared({ decayEmbeddings: false })).toEqual(['embedding'])
  const norms = await spared({ decayNorms: false })
  expect(norms).toHaveLength(2 * 4 + 1)
  expect(norms.every((name) => name.endsWith('Norm'))).toBe(true)
  expect(new Set(await spared({ decayNorms: false, decayEmbeddings: false }))).toEqual(new Set([...norms, 'embedding']))
})
