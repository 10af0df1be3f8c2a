/** Experiments: every template is one knob on one recipe, results claim what the runs show, and one call makes and queues the group. */
import { expect, test } from 'vitest'
import { judge, pairedDifference, spreadOver, tokensToReach } from '#core/shared/experiment-results.ts'
import { templates } from '#core/shared/experiment-templates.ts'
import { experimentInputSchema, planExperiment } from '#core/shared/experiments.ts'
import { countParameters } from '#core/shared/models.ts'
import { recipe } from './recipe.ts'
import { createLibrary, until } from './library.ts'

const dense = { checkpointId: 'dense-100', step: 100, learningRate: 1e-4, config: recipe({ model: { ...recipe().model, num_experts: 0, num_experts_per_tok: 0, dense_intermediate_size: 32 } }) }
const inputOf = (template: string, more: object = {}) => experimentInputSchema.parse({ template, secondMix: 'other', denseCheckpointId: template.startsWith('upcycling') ? 'dense-100' : null, ...more })

test('every template makes valid arms that differ in their knob and in nothing of the data', () => {
  for (const template of templates) {
    const runs = planExperiment(inputOf(template.id), dense)
    expect(runs.map(({ arm }) => arm)).toEqual(template.arms.map(({ id }) => id))
    expect(template.arms.map(({ id }) => id)).toContain(template.paper.better)
    const [first, ...others] = runs.map(({ config: { name: _name, ...config } }) => config)
    for (const other of others) {
      expect(other, template.id).not.toEqual(first)
      const { seed, dataSeed, steps, sequencesPerStep, sequenceLength } = other
      expect({ seed, dataSeed, steps, sequencesPerStep, sequenceLength }).toEqual({ seed: first!.seed, dataSeed: first!.dataSeed, steps: first!.steps, sequencesPerStep: first!.sequencesPerStep, sequenceLength: first!.sequenceLength })
    }
    for (const { byArm } of template.paper.metrics) expect(Object.keys(byArm).sort()).toEqual(template.arms.map(({ id }) => id).sort())
  }
})

test('MoE against dense and the granularities have the same active width', () => {
  const experts = (template: string): number[] =>
    planExperiment(inputOf(template), null).map(({ config: { model } }) => (model.num_experts === 0 ? model.dense_intermediate_size! : model.num_experts_per_tok * model.intermediate_size))
  expect(new Set([...experts('moeVsDense'), ...experts('granularity')]).size).toBe(1)
  const totals = planExperiment(inputOf('granularity'), null).map(({ config: { model } }) => countParameters(model).experts)
  expect(new Set(totals).size).toBe(1)
})

test('seeds multiply the arms; the experiments that need something say so', () => {
  expect(planExperiment(inputOf('norm', { seeds: [1, 2, 3] }), null).map(({ arm, config }) => `${arm} ${config.seed}`)).toEqual(['rms 1', 'layer 1', 'rms 2', 'layer 2', 'rms 3', 'layer 3'])
  expect(experimentInputSchema.safeParse({ template: 'upcycling' }).error!.issues[0]!.path).toEqual(['denseCheckpointId'])
  expect(experimentInputSchema.safeParse({ template: 'dataset' }).error!.issues[0]!.path).toEqual(['secondMix'])
  const [upcycled, scratch] = planExperiment(inputOf('upcycling'), dense)
  expect(upcycled!.config).toMatchObject({ stage: 'upcycle', startFrom: { checkpointId: 'dense-100', optimizer: false }, model: { num_experts: 8, intermediate_size: 32 } })
  expect(scratch!.config).toMatchObject({ stage: 'pretrain', startFrom: null, model: { num_experts: 8, intermediate_size: 32 } })
})

test('tokens to a loss lie between the points, a spread has a deviation only over seeds', () => {
  const curve = { tokens: [0, 100, 200], losses: [5, 4, 2] }
  expect(tokensToReach(curve, 3)).toBe(150)
  expect(tokensToReach(curve, 5)).toBe(0)
  expect(tokensToReach(curve, 1)).toBeNull()
  expect(spreadOver([2])).toEqual({ mean: 2, min: 2, max: 2, deviation: null, count: 1 })
  expect(spreadOver([1, 3])!.deviation).toBeCloseTo(Math.SQRT2)
})

test('a difference is taken seed by seed', () => {
  const [routed, shared] = [new Map([[1, 3], [2, 3.5], [3, 9]]), new Map([[2, 3.4], [1, 2.8]])]
  const found = pairedDifference(routed, shared)!
  expect(found).toMatchObject({ count: 2, min: expect.closeTo(0.1), max: expect.closeTo(0.2) })
  expect(found.mean).toBeCloseTo(0.15)
  expect(found.deviation).toBeCloseTo(0.1 / Math.SQRT2)
  expect(pairedDifference(routed, new Map([[7, 1]]))).toBeNull()
})

test('the verdict is about signs beyond noise', () => {
  const paper = templates.find(({ id }) => id === 'norm')!.paper
  const verdict = (rms: number[], layer: number[]): string => judge([{ arm: 'rms', validation: spreadOver(rms) }, { arm: 'layer', validation: spreadOver(layer) }], paper).verdict
  expect(verdict([], [1])).toBe('pending')
  expect(verdict([3.0], [3.1])).toBe('agrees')
  expect(verdict([3.1], [3.0])).toBe('differs')
  expect(verdict([3.0], [3.001])).toBe('undecided')
  expect(verdict([3.0, 3.2], [3.05, 3.3])).toBe('undecided')
})

test('one call makes the group, queues it, and its page has the result when it is done', async () => {
  const library = createLibrary()
  library.script({ stepMs: 1 })
  const core = await library.start()
  const { id } = await core.client.experiments.create(inputOf('adamEps', { seeds: [1, 2], steps: 10 }))
  const { runs } = await core.client.experiments.get({ id })
  expect(runs.map(({ arm, status }) => `${arm} ${status}`)).toEqual(['small running', 'large queued', 'small queued', 'large queued'])
  await until(core, runs.at(-1)!.id, 'done')
  const result = await core.client.experiments.get({ id })
  expect(result.arms.map(({ arm, done, validation }) => [arm, done, validation!.count])).toEqual([['small', 2, 2], ['large', 2, 2]])
  // The script's losses depend on the seed alone: there is no difference to be found.
  expect(result).toMatchObject({ verdict: 'undecided', difference: 0 })
  expect(result.arms.map(({ difference }) => difference)).toEqual([null, { mean: 0, min: 0, max: 0, deviation: 0, count: 2 }])
  expect(await core.client.experiments.list()).toMatchObject([{ id, done: 4, runs: 4 }])
  await expect(core.client.experiments.create(inputOf('norm', { mix: 'none' }))).rejects.toMatchObject({ code: 'mixes.notFound' })
  await core.client.experiments.remove({ id })
  expect(await core.client.experiments.list()).toEqual([])
  expect((await core.client.runs.list()).every(({ experimentId }) => experimentId === null)).toBe(true)
})
