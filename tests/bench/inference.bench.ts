/** Inference at real sizes (inference.ts) as a group of the benchmark. */
import { benchInference } from './inference.ts'
import type { Bench } from './measure.ts'

export const bench: Bench = {
  title: 'inference: packed weights, one sequence and many (G10–G12, G14)',
  run: ({ show, note, only }) => benchInference((row) => show({ group: 'inf', ...row }), note, only),
}
