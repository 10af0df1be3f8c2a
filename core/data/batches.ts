/**
 * The order of training: one shuffle of all instances per epoch, a new one each time, all from one seed. A domain of several epochs, or
 * of a part of one, has its instances as often in each pass; which ones make up the part is drawn anew for every pass. Where a run is, is one number:
 * the instances consumed so far. A batch is a function of seed, position and size, so a resumed run goes on with the very next instance.
 * An epoch's last batch is filled from the next epoch.
 */
import { createRandom, permutation } from '#core/shared/random.ts'
import type { Instances } from './shards.ts'

/** `size` instances one after another. ids and targets are [size · sequenceLength]; a target < 0 carries no loss. */
export type TokenBatch = {
  ids: Int32Array
  targets: Int32Array
  /** Positions that carry loss. */
  targetCount: number
  /** Per instance: its number, and the index of its domain in the manifest. */
  instances: number[]
  domains: number[]
}

function readBatch(source: Instances, instances: number[], size: number): TokenBatch {
  const length = source.sequenceLength
  const batch: TokenBatch = {
    ids: new Int32Array(size * length),
    targets: new Int32Array(size * length).fill(-1),
    targetCount: 0,
    instances,
    domains: instances.map((instance) => source.domainOf(instance)),
  }
  instances.forEach((instance, i) => {
    batch.targetCount += source.read(instance, batch.ids, batch.targets, i * length)
  })
  return batch
}

export type TrainingOrder = {
  /** Instance number at a position of the endless order. */
  instanceAt(position: number): number
  /** The `size` instances from `position` on. */
  batchAt(position: number, size: number): TokenBatch
}

/** The instances of one pass, before they are shuffled. Null when each is there once. */
function passOf(source: Instances, seed: number, epoch: number): Uint32Array | null {
  if (source.domains.every(({ epochs }) => epochs === 1)) return null
  const lengths = source.domains.map(({ count, epochs }) => Math.round(count * epochs))
  const pass = new Uint32Array(lengths.reduce((sum, length) => sum + length, 0))
  let at = 0
  source.domains.forEach(({ name, first, count }, i) => {
    for (let left = lengths[i]!; left > 0; left -= count) {
      if (left >= count) for (let k = 0; k < count; k++) pass[at++] = first + k
      else for (const k of permutation(count, createRandom(seed, `part of ${name} in epoch ${epoch}`)).subarray(0, left)) pass[at++] = first + k
    }
  })
  return pass
}

/** Instances of one pass over the mix. */
export function passLength(source: Instances): number {
  return source.domains.reduce((sum, { count, epochs }) => sum + Math.round(count * epochs), 0)
}

/** The order of `source` under `seed`. Another seed is another order over the same instances. */
export function createTrainingOrder(source: Instances, seed: number): TrainingOrder {
  let epoch = -1
  let order = new Uint32Array(0)
  const length = passLength(source)
  const instanceAt = (position: number): number => {
    const wanted = Math.floor(position / length)
    if (wanted !== epoch) {
      const shuffled = permutation(length, createRandom(seed, `instances of epoch ${wanted}`)) as Uint32Array<ArrayBuffer>
      const pass = passOf(source, seed, wanted)
      order = pass === null ? shuffled : shuffled.map((i) => pass[i]!)
      epoch = wanted
    }
    return order[position % length]!
  }
  return {
    instanceAt,
    batchAt: (position, size) => readBatch(source, Array.from({ length: size }, (_, i) => instanceAt(position + i)), size),
  }
}

/**
 * The held-out batches of one domain, in file order, at most `limit` instances (spread evenly over the domain). Every batch has `size`
 * rows; rows beyond the last instance have no targets.
 */
export function* validationBatches(source: Instances, domain: number, size: number, limit = Infinity): Generator<TokenBatch> {
  const { first, count } = source.domains[domain]!
  const taken = Math.min(count, limit)
  const all = Array.from({ length: taken }, (_, i) => first + Math.floor((i * count) / taken))
  for (let i = 0; i < taken; i += size) yield readBatch(source, all.slice(i, i + size), size)
}
