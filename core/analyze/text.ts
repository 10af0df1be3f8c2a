/**
 * The text of an analysis as batches of whole sequences: chosen domains of a mix, or one given text. A sequence stands for itself, as in
 * training; its last token has no target. What a batch lacks at the end of a domain is padding, which belongs to no segment.
 */
import { validationBatches } from '#core/data/batches.ts'
import type { MixManifest } from '#core/data/mix-manifest.ts'
import { openInstances } from '#core/data/shards.ts'
import { AppError } from '#core/shared/errors.ts'
import type { AnalysisData } from '#core/shared/analyses.ts'
import type { Segment } from './counters.ts'

export type TextBatch = { ids: Int32Array; targets: Int32Array; segments: Segment[] }
export type AnalysedText = {
  readonly domains: readonly string[]
  /** Tokens of all batches, known before the first; padding and left-out sequences make the real number a little smaller. */
  readonly tokens: number
  batches(): Generator<TextBatch>
  close(): void
}

type Cut = { sequence: number; sequences: number }

/** Segments of the rows of a batch: up to the token after the last target. A row without any has nothing to say. */
function segmentsOf(targets: Int32Array, sequence: number, domain: (row: number) => number): Segment[] {
  const segments: Segment[] = []
  for (let row = 0; row * sequence < targets.length; row++) {
    const from = row * sequence
    let last = from + sequence - 1
    while (last >= from && targets[last]! < 0) last--
    if (last >= from) segments.push({ from, to: Math.min(last + 2, from + sequence), domain: domain(row) })
  }
  return segments
}

/** Text of a mix in its folder. Throws AppError analyze.noDomain or analyze.noText. */
export function openMixText(folder: string, manifest: MixManifest, data: Extract<AnalysisData, { kind: 'mix' }>, { sequence, sequences }: Cut): AnalysedText {
  const names = manifest.domains.map(({ name }) => name)
  const unknown = data.domains?.find((name) => !names.includes(name))
  if (unknown !== undefined) {
    throw new AppError('analyze.noDomain', `domains: mix ${manifest.id} has no domain "${unknown}"`, { params: { found: unknown, expected: names.join(', ') }, hint: `It has: ${names.join(', ')}.` })
  }
  const instances = openInstances(folder, manifest, data.split, sequence)
  const limit = Math.max(1, Math.floor(data.tokensPerDomain / sequence))
  const chosen = instances.domains.map((domain, index) => ({ ...domain, index })).filter(({ name, count }) => count > 0 && (data.domains?.includes(name) ?? true))
  if (chosen.length === 0) {
    instances.close()
    throw new AppError('analyze.noText', `The ${data.split} split of mix ${manifest.id} has no text in the chosen domains`, { params: { split: data.split }, hint: 'Choose the training split, or other domains.' })
  }
  return {
    domains: chosen.map(({ name }) => name),
    tokens: chosen.reduce((sum, { count }) => sum + Math.min(count, limit) * sequence, 0),
    *batches() {
      for (const [domain, { index }] of chosen.entries()) {
        for (const { ids, targets } of validationBatches(instances, index, sequences, limit)) yield { ids, targets, segments: segmentsOf(targets, sequence, () => domain) }
      }
    },
    close: () => instances.close(),
  }
}

/** One text, given as its tokens, as a domain of its own. Throws AppError analyze.noText when it has fewer than two. */
export function givenText(tokens: ArrayLike<number>, name: string, { sequence, sequences }: Cut): AnalysedText {
  if (tokens.length < 2) throw new AppError('analyze.noText', 'The text has fewer than two tokens', { params: { split: 'text' }, hint: 'Give more text.' })
  const size = sequence * sequences
  return {
    domains: [name],
    tokens: tokens.length,
    *batches() {
      for (let from = 0; from < tokens.length; from += size) {
        const ids = Int32Array.from({ length: size }, (_, t) => tokens[from + t] ?? 0)
        const targets = Int32Array.from({ length: size }, (_, t) => ((t + 1) % sequence === 0 ? -1 : (tokens[from + t + 1] ?? -1)))
        yield { ids, targets, segments: segmentsOf(targets, sequence, () => 0) }
      }
    },
    close: () => undefined,
  }
}
