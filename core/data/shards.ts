/**
 * Reads a mix's token files as instances: consecutive chunks of `sequenceLength` tokens of one domain's file, documents running on through
 * EOS, no padding, no document mask (OLMoE's packing). Loss is on inner positions only: the target of position i is token i+1 of the same
 * chunk and the last position has none. The tail that fills no chunk is dropped in training and kept, padded, in validation. A training
 * instance in which a sequence of 1 to 13 tokens stands 32 times in a row or more keeps its place in the order and loses its loss (OLMo).
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import { findRepeats } from './filters/repeats.ts'
import { tokenFile, type MixManifest, type Split } from './mix-manifest.ts'

/** What makes an instance lose its loss. */
const maskedRepeats = { count: 32, longest: 13 }

/** Position without a target. */
export const noTarget = -1

export type Instances = {
  readonly sequenceLength: number
  /** Instances of all domains, numbered through in the manifest's order. */
  readonly count: number
  readonly domains: readonly { name: string; first: number; count: number; epochs: number }[]
  /** Index of the domain that instance `index` is from. */
  domainOf(index: number): number
  /** Puts tokens and targets of one instance at `at` of the batch; gives the number of targets. */
  read(index: number, ids: Int32Array, targets: Int32Array, at: number): number
  close(): void
}

/** Opens one split of a mix in `folder`. Throws AppError `mix.tooSmall` when training has no whole instance. */
export function openInstances(folder: string, manifest: MixManifest, split: Split, sequenceLength: number): Instances {
  const { tokenBytes, eosId } = manifest
  const fit = split === 'train' ? Math.floor : Math.ceil
  let first = 0
  const domains = manifest.domains.map(({ name, trainTokens, validationTokens, epochs = 1 }) => {
    const tokens = split === 'train' ? trainTokens : validationTokens
    const domain = { name, first, tokens, epochs: split === 'train' ? epochs : 1, count: fit(tokens / sequenceLength) }
    first += domain.count
    return domain
  })
  const count = first
  if (split === 'train' && count === 0) {
    throw new AppError('mix.tooSmall', `no domain of mix ${manifest.id} has ${sequenceLength} training tokens`, {
      params: { mix: manifest.id, expected: sequenceLength },
      hint: 'Shorten the sequence length or add text to the mix.',
    })
  }
  const files = domains.map(({ name }) => openSync(join(folder, tokenFile(name, split)), 'r'))
  const bytes = Buffer.alloc(sequenceLength * tokenBytes)

  const domainOf = (index: number): number => {
    if (!(index >= 0 && index < count)) throw new RangeError(`instance ${index} of ${count}`)
    let domain = domains.length - 1
    while (domains[domain]!.first > index) domain--
    return domain
  }
  return {
    sequenceLength,
    count,
    domains,
    domainOf,
    read(index, ids, targets, at) {
      const which = domainOf(index)
      const { name, first: start, tokens } = domains[which]!
      const offset = (index - start) * sequenceLength
      const length = Math.min(sequenceLength, tokens - offset)
      const found = readSync(files[which]!, bytes, 0, length * tokenBytes, offset * tokenBytes)
      if (found !== length * tokenBytes) {
        const file = join(folder, tokenFile(name, split))
        throw new AppError('mix.damaged', `${file} ends before token ${offset + length}`, { params: { file }, hint: 'Delete the mix and build it again.' })
      }
      ids.fill(eosId, at, at + sequenceLength)
      targets.fill(noTarget, at, at + sequenceLength)
      for (let i = 0; i < length; i++) {
        const id = tokenBytes === 2 ? bytes.readUInt16LE(i * 2) : bytes.readUInt32LE(i * 4)
        ids[at + i] = id
        if (i > 0) targets[at + i - 1] = id
      }
      if (split === 'train' && findRepeats(ids, maskedRepeats, at, at + length) !== null) {
        targets.fill(noTarget, at, at + length)
        return 0
      }
      return length - 1
    },
    close: () => files.forEach((file) => closeSync(file)),
  }
}
