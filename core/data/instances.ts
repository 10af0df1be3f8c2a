/**
 * Reads a built mix as training instances: consecutive pieces of `sequenceLength` tokens of every token file (a file's tail that
 * fills no piece is dropped), in one global order, shuffled from a seed and again every epoch (reference section 2).
 * An instance stands for itself: its last token has no target. Position p of the order is a pure function of seed and p, so the
 * whole loader state is one number.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import { createRandom, permutation } from '#core/shared/random.ts'
import { readMixManifest, type MixManifest, type Part } from './mix.ts'

export type Instance = { domain: string; ids: Int32Array }

export type InstanceReader = {
  readonly manifest: MixManifest
  /** Instances in one epoch. */
  readonly count: number
  /** The instance at position `position` ≥ 0 of the endless order; epoch = ⌊position / count⌋. */
  at(position: number): Instance
  /** The first `most` held-out pieces of every domain, in file order; a last one that is short is cut, never padded. */
  validation(most: number): { domain: string; pieces: Int32Array[] }[]
  close(): void
}

type TokenFile = { domain: string; file: number; tokens: number }

function openTokenFile(folder: string, manifest: MixManifest, domain: string, part: Part): TokenFile {
  const name = `${domain}.${part}.tokens`
  const path = join(folder, name)
  const sizeBytes = statSync(path, { throwIfNoEntry: false })?.size
  const expected = manifest.files[name]?.sizeBytes
  if (sizeBytes === undefined || sizeBytes !== expected) {
    throw new AppError('mix.damaged', `${path} has ${sizeBytes ?? 'no'} bytes, expected ${expected ?? 'none'}`, { params: { file: path }, hint: 'Build the mix again.' })
  }
  return { domain, file: openSync(path, 'r'), tokens: sizeBytes / manifest.bytesPerToken }
}

function readTokens({ file }: TokenFile, start: number, count: number, bytesPerToken: 2 | 4): Int32Array {
  const bytes = Buffer.alloc(count * bytesPerToken)
  readSync(file, bytes, 0, bytes.length, start * bytesPerToken)
  return Int32Array.from({ length: count }, (_, i) => (bytesPerToken === 2 ? bytes.readUInt16LE(2 * i) : bytes.readUInt32LE(4 * i)))
}

/** Opens the mix in `folder`. Throws AppError `mix.damaged` or `mix.tooSmall`. */
export function openInstances(folder: string, sequenceLength: number, seed: number): InstanceReader {
  const manifest = readMixManifest(folder)
  const open = (part: Part): TokenFile[] => manifest.domains.map(({ name }) => openTokenFile(folder, manifest, name, part))
  const [train, validation] = [open('train'), open('validation')]
  const perFile = train.map(({ tokens }) => Math.floor(tokens / sequenceLength))
  const count = perFile.reduce((a, b) => a + b, 0)
  const close = (): void => [...train, ...validation].forEach(({ file }) => closeSync(file))
  if (count === 0) {
    close()
    throw new AppError('mix.tooSmall', `mix ${manifest.id} holds no piece of ${sequenceLength} tokens`, { params: { mix: manifest.id, expected: sequenceLength }, hint: 'Choose a shorter sequence length or add data.' })
  }
  let shuffled: { epoch: number; order: Uint32Array } | null = null
  const orderOf = (epoch: number): Uint32Array => {
    if (shuffled?.epoch !== epoch) shuffled = { epoch, order: permutation(count, createRandom(seed, `order/${epoch}`)) }
    return shuffled.order
  }
  return {
    manifest,
    count,
    at(position) {
      let index = orderOf(Math.floor(position / count))[position % count]!
      let i = 0
      while (index >= perFile[i]!) index -= perFile[i++]!
      const file = train[i]!
      return { domain: file.domain, ids: readTokens(file, index * sequenceLength, sequenceLength, manifest.bytesPerToken) }
    },
    validation: (most) =>
      validation.map((file) => {
        const pieces: Int32Array[] = []
        for (let start = 0; pieces.length < most && file.tokens - start >= 2; start += sequenceLength) {
          pieces.push(readTokens(file, start, Math.min(sequenceLength, file.tokens - start), manifest.bytesPerToken))
        }
        return { domain: file.domain, pieces }
      }),
    close,
  }
}
