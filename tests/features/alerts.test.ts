/** Alerts from step records: noise raises none, each kind is told once while it lasts, and experts are judged by utilisation. */
import { expect, test } from 'vitest'
import { createAlertWatch, type Finding } from '#core/shared/alerts.ts'
import { createRandom } from '#core/shared/random.ts'

const random = createRandom(1, 'alerts')
const noisy = (step: number): number => 2 + 8 / Math.sqrt(step) + 0.1 * random.nextNormal()

function findings(count: number, record: (step: number) => { loss?: number; gradNorm?: number; counts?: number[] }): Finding[] {
  const watch = createAlertWatch({ layers: [1, 3], experts: 4, perToken: 1 })
  return Array.from({ length: count }, (_, i) => {
    const { counts, ...scalars } = record(i + 1)
    return watch.push({ step: i + 1, scalars, expertCounts: counts ?? null })
  }).flat()
}

test('a training with its ordinary noise raises nothing', () => {
  expect(findings(2000, (step) => ({ loss: noisy(step), gradNorm: Math.exp(0.5 * random.nextNormal()), counts: [20, 30, 25, 25] }))).toEqual([])
})

test('a spike that lasts is one alert; the next one is another', () => {
  const found = findings(300, (step) => ({ loss: noisy(step) + ([100, 101, 102, 200].includes(step) ? 5 : 0), gradNorm: step === 150 ? 100 : 1 + 0.1 * random.nextNormal() }))
  expect(found.map(({ kind, step }) => `${kind} ${step}`)).toEqual(['lossSpike 100', 'gradientSpike 150', 'lossSpike 200'])
})

test('a value that is not finite is named', () => {
  expect(findings(3, (step) => ({ loss: step === 2 ? NaN : 3 }))).toMatchObject([{ kind: 'notFinite', step: 2, field: 'loss' }])
})

test('an expert without tokens is dead, one with nearly all is overloaded, by its layer’s number in the model', () => {
  const found = findings(100, () => ({ counts: [25, 25, 25, 25, 96, 4, 0, 0] }))
  expect(found.map(({ kind, layer, experts, step }) => ({ kind, layer, experts, step }))).toEqual([
    { kind: 'deadExperts', layer: 3, experts: [2, 3], step: 32 },
    { kind: 'overloadedExperts', layer: 3, experts: [0], step: 32 },
  ])
})
