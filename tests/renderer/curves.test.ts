/** Curves of an experiment: the mean and the band of an arm's seeds where all of them are, and each seed by itself where they are not. */
import { expect, test } from 'vitest'
import { armLines } from '#renderer/features/experiments/curves.ts'

const arms = [{ label: 'a', colour: '1' }, { label: 'b', colour: '2' }]

test('an arm with two seeds is its mean in a band from the lowest to the highest; one still on its way ends the band', () => {
  const { x, lines } = armLines(
    [
      { arm: 0, x: [0, 10, 20], values: [8, 6, 4] },
      { arm: 1, x: [0, 10, 20], values: [7, 5, 3] },
      { arm: 0, x: [0, 10], values: [9, 7] },
    ],
    arms,
  )
  expect(x).toEqual([0, 10, 20])
  const named = (label: string) => lines.filter((line) => line.label === label)
  expect(named('a').filter(({ faint }) => !faint).map(({ values }) => values)).toEqual([[8.5, 6.5, null]])
  const high = lines.findIndex(({ bandTo }) => bandTo !== undefined)
  expect([lines[high + lines[high]!.bandTo!]!.values, lines[high]!.values]).toEqual([[8, 6, null], [9, 7, null]])
  expect(named('a').map(({ values }) => values)).toContainEqual([8, 6, 4])
  expect(named('b')).toEqual([{ label: 'b', colour: '2', values: [7, 5, 3] }])
})

test('over time seeds never stand at the same place: no mean, and one line for each', () => {
  const { lines } = armLines([{ arm: 0, x: [1, 2], values: [3, 4] }, { arm: 0, x: [1.5, 2.5], values: [5, 6] }], arms)
  expect(lines.map(({ values, faint }) => [values, faint ?? false])).toEqual([[[3, null, 4, null], false], [[null, 5, null, 6], true]])
})
