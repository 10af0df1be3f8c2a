/** What the page of a routed text reads off it: where an expert fires, what a tint means, what an intervention changed. */
import { expect, test } from 'vitest'
import type { RoutedText } from '#core/shared/analyses.ts'
import { changeOf, firingsOf, gateOf, tintOf } from '#renderer/features/analyses/text-view.ts'

/** Three tokens, two layers, two of four experts; `shift` moves the losses. */
const routedText = (shift: number): RoutedText => ({
  layers: [0, 2], experts: 4, topK: 2, loss: 1, continuation: '',
  tokens: [[0, 1], [1, 2], [3, 1]].map((experts, i) => ({ id: i, text: `t${i}`, loss: i + shift, entropy: [0.25, 0.5], layers: [{ experts, weights: [0.6, 0.3] }, { experts: [2, 3], weights: [0.5, 0.4] }] })),
})

test('an expert fires where it is among the top k', () => {
  const routed = routedText(0)
  const firing = firingsOf(routed, 0, 1)
  expect(firing).toMatchObject({ tokens: [0, 1, 2], first: 1, share: 1, n: 3 })
  expect(firing.interval[0]).toBeLessThan(0.5)
  expect(firingsOf(routed, 1, 0).tokens).toEqual([])
  expect(gateOf(routed, 1, 0, 2)).toBe(0.3)
})

test('tints go by what is asked: the selected expert’s own layer, and the sign of a change', () => {
  const [before, routed] = [routedText(1), routedText(0)]
  const view = { routed, layer: 1, chosen: { layer: 0, expert: 1 }, before }
  expect(tintOf({ ...view, coloring: 'entropy' }, 0)).toContain('50%')
  expect(tintOf({ ...view, coloring: 'selected' }, 1)).toContain('60%')
  expect(changeOf(routed, before, 2)).toBe(-1)
  expect(tintOf({ ...view, coloring: 'change' }, 2)).toContain('--less')
  expect(tintOf({ ...view, coloring: 'change', routed: routedText(2) }, 2)).toContain('--more')
})
