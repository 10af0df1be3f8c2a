/** The dial: every size is a recipe that the schema takes, they grow, and the last one is the paper's. */
import { expect, test } from 'vitest'
import { countParameters, isOlmoe } from '#core/shared/models.ts'
import { recipeOfSize, sizes } from '#core/shared/sizes.ts'

test('sixteen layers are OLMoE-1B-7B, to the parameter and the step', () => {
  const recipe = recipeOfSize(16)
  expect(countParameters(recipe.model)).toMatchObject({ total: 6_919_161_856, active: 1_282_017_280, experts: 6_442_450_944 })
  expect(recipe).toMatchObject({ name: 'OLMoE-1B-7B', sequenceLength: 4096, sequencesPerStep: 1024, steps: 1_199_961, optimizer: { peakLearningRate: 4e-4, minLearningRate: 4e-5, warmupSteps: 2500 } })
  expect(recipe.model).toMatchObject({ vocab_size: 50_304, hidden_size: 2048, intermediate_size: 1024, num_attention_heads: 16, num_experts: 64, num_experts_per_tok: 8, initializer_range: 0.02 })
})

test('sizes grow in parameters, tokens and context; the learning rate falls', () => {
  const recipes = sizes.map(({ layers }) => recipeOfSize(layers))
  const growing = (of: (recipe: (typeof recipes)[number]) => number): void => recipes.slice(1).forEach((recipe, i) => expect(of(recipe), `${recipe.name} after ${recipes[i]!.name}`).toBeGreaterThanOrEqual(of(recipes[i]!)))
  growing(({ model }) => countParameters(model).total)
  growing(({ steps, sequencesPerStep, sequenceLength }) => steps * sequencesPerStep * sequenceLength)
  growing(({ sequenceLength }) => sequenceLength)
  growing(({ optimizer }) => -optimizer.peakLearningRate)
  for (const { model, sequencesPerStep, sequencesPerMicroBatch, steps } of recipes) {
    expect(isOlmoe(model)).toBe(true)
    expect(sequencesPerStep % sequencesPerMicroBatch!).toBe(0)
    expect(steps).toBeGreaterThanOrEqual(100)
  }
})

test('a mix brings its own vocabulary', () => {
  expect(recipeOfSize(4, { vocabularySize: 5000, mix: 'mine' })).toMatchObject({ mix: 'mine', model: { vocab_size: 5000 } })
})
