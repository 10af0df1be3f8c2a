/** The new-run form begins with the quick start's recipe, changes nothing of a recipe by itself, and says what is wrong with a bad one. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { reactive } from 'vue'
import { runConfigSchema } from '#core/shared/runs.ts'
import { recipeOfSize, sizes } from '#core/shared/sizes.ts'
import { baseRecipe, check, fieldsOf, withFields } from '#renderer/features/runs/recipe.ts'

test('the form starts from the quick start', () => {
  const preset = runConfigSchema.parse(JSON.parse(readFileSync(join(import.meta.dirname, '../../resources/presets/quickstart.json'), 'utf8')))
  expect({ ...baseRecipe(null), name: preset.name }).toEqual(preset)
})

const awkward = runConfigSchema.parse({
  ...baseRecipe(null),
  optimizer: { peakLearningRate: 7e-4, minLearningRate: 1e-4 / 3, warmupSteps: 7, schedule: 'warmup-stable-decay', decaySteps: 3 },
  control: { prompts: ['Two lines\nin one prompt', 'Another'], pauseOnNotFinite: true },
})

test('a recipe that goes through the form unchanged is the same to the last bit', () => {
  for (const recipe of [baseRecipe(null), awkward, ...sizes.map(({ layers }) => recipeOfSize(layers))]) expect(withFields(recipe, fieldsOf(recipe, recipe.name))).toEqual(recipe)
})

test('a recipe of the page’s own state, which is a proxy, is copied', () => {
  const copy = baseRecipe(reactive(awkward))
  expect(copy).toEqual(awkward)
  expect(copy.model).not.toBe(awkward.model)
})

test('schedule and prompts are what the fields say, and a mistake is its field’s', () => {
  const fields = { ...fieldsOf(awkward, 'x'), learningRate: 1e-3, finalShare: 0.1, prompts: 'One\n\nTwo\n' }
  const { config } = check(withFields(awkward, fields))
  expect(config).toMatchObject({ optimizer: { peakLearningRate: 1e-3, minLearningRate: 1e-4 }, control: { prompts: ['One', 'Two'] } })
  const wrong = (change: object) => check(withFields(awkward, { ...fields, ...change })).problems.map(({ field }) => field)
  expect(wrong({ finalShare: 1.5 })).toEqual(['finalShare'])
  expect(wrong({ decaySteps: 1400 })).toEqual(['decaySteps'])
  expect(wrong({ warmupSteps: null })).toEqual(['warmupSteps'])
  expect(wrong({ prompts: 'a\nb\nc\nd\ne\nf\ng\nh\ni' })).toEqual(['prompts'])
})
