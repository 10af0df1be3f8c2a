/** The first batches of a mix as a run with that seed and length will see them: decoded, with the source of each instance and the sources' shares. */
import { createTrainingOrder, passLength } from './batches.ts'
import type { MixManifest } from './mix-manifest.ts'
import { openInstances } from './shards.ts'
import type { Tokenizer } from './tokenizer.ts'

export type PreviewOptions = { sequenceLength: number; sequencesPerStep: number; seed: number; steps: number }
export type Preview = {
  /** Instances of one pass over the mix. */
  instances: number
  steps: { instances: { source: string; instance: number; text: string; masked: boolean }[] }[]
  /** Instances of the shown steps by source. */
  bySource: Record<string, number>
}

export function previewMix(folder: string, manifest: MixManifest, tokenizer: Tokenizer, { sequenceLength, sequencesPerStep, seed, steps }: PreviewOptions): Preview {
  const instances = openInstances(folder, manifest, 'train', sequenceLength)
  try {
    const order = createTrainingOrder(instances, seed)
    const bySource: Record<string, number> = Object.fromEntries(manifest.domains.map(({ name }) => [name, 0]))
    const shown = Array.from({ length: steps }, (_, step) => {
      const batch = order.batchAt(step * sequencesPerStep, sequencesPerStep)
      return {
        instances: batch.instances.map((instance, row) => {
          const source = manifest.domains[batch.domains[row]!]!.name
          bySource[source]!++
          const [from, to] = [row * sequenceLength, (row + 1) * sequenceLength]
          return { source, instance, text: tokenizer.decode(batch.ids.subarray(from, to)), masked: batch.targets.subarray(from, to).every((target) => target < 0) }
        }),
      }
    })
    return { instances: passLength(instances), steps: shown, bySource }
  } finally {
    instances.close()
  }
}
