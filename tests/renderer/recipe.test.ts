/** The new-run form begins with the quick start's recipe, and says what is wrong with a bad one. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runConfigSchema } from '#core/shared/runs.ts'
import { baseRecipe } from '#renderer/features/runs/recipe.ts'

test('the form starts from the quick start', () => {
  const preset = runConfigSchema.parse(JSON.parse(readFileSync(join(import.meta.dirname, '../../resources/presets/quickstart.json'), 'utf8')))
  expect({ ...baseRecipe(null), name: preset.name }).toEqual(preset)
})
