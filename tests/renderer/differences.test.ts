/** What the comparison of recipes shows, and what a zoomed series is made of. */
import { expect, test } from 'vitest'
import { differences } from '#renderer/features/runs/differences.ts'
import { withDetail } from '#renderer/features/runs/series.ts'

test('only what differs is listed, by its path; names are no difference', () => {
  expect(differences([{ name: 'a', steps: 1, model: { k: 1, e: 8 } }, { name: 'b', steps: 1, model: { k: 2, e: 8, f: [1] } }])).toEqual([
    { path: 'model.k', values: ['1', '2'] },
    { path: 'model.f', values: ['–', '[1]'] },
  ])
})

test('finer points take the place of the thinned ones of their range', () => {
  const whole = { key: 'loss', steps: [1, 10, 20, 30], values: [1, 10, 20, 30] }
  expect(withDetail(whole, { key: 'loss', steps: [10, 12, 20], values: [0, 2, 0] }).steps).toEqual([1, 10, 12, 20, 30])
  expect(withDetail(whole, { key: 'loss', steps: [25, 40], values: [0, 0] }).values).toEqual([1, 10, 20, 0, 0])
})
