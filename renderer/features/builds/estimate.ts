/** What a draft's mix will hold, from what is known before it is built: the text of each source and how its first documents were tokenized and filtered. */
import type { FilterPreview, MixDraft } from '#core/shared/builds.ts'
import { planShares, type ShareRow } from '#core/shared/mix-shares.ts'
import type { LibrarySource } from '#core/shared/sources.ts'

export type EstimateRow = ShareRow & { id: string; licence: string; documents: number | null; textBytes: number; bytesPerToken: number | null }

/** Used for text that nothing is known of yet. */
const usualBytesPerToken = 4

export function estimateMix(draft: MixDraft, sources: readonly LibrarySource[], preview: FilterPreview | null): EstimateRow[] {
  const chosen = draft.sources.map((id) => sources.find((source) => source.id === id)).filter((source) => source !== undefined)
  const facts = chosen.map(({ id, spec, report }) => {
    const seen = preview?.sources.find(({ name }) => name === spec.name)
    const bytesPerToken = seen && seen.tokens > 0 ? seen.bytes / seen.tokens : null
    const keptShare = seen && seen.tokens > 0 ? seen.keptTokens / seen.tokens : 1
    const textBytes = report?.textBytes ?? report?.expectedTextBytes ?? 0
    const available = Math.round((textBytes / (bytesPerToken ?? usualBytesPerToken)) * keptShare * (1 - draft.heldOut.fraction))
    return { id, name: spec.name, licence: spec.licence, documents: report?.documents ?? null, textBytes, bytesPerToken, available }
  })
  const shares = draft.shares && Object.fromEntries(facts.map(({ id, name }) => [name, draft.shares![id] ?? 0]))
  const rows = planShares(facts, shares, draft)
  return facts.map((fact, i) => ({ ...fact, ...rows[i]! }))
}
