/** The rows of a built mix: what each source has, and its part of one pass. */
import type { MixDetails, MixDomain, SourceOutcome } from '#core/shared/mixes.ts'

export type MixRow = MixDomain & { share: number; epochs: number; warning: SourceOutcome['warning']; bytesPerToken: number | null }

export function rowsOf({ mix, outcomes }: Pick<MixDetails, 'mix' | 'outcomes'>): MixRow[] {
  return mix.domains.map((domain) => {
    const outcome = outcomes.find(({ name }) => name === domain.name)
    const tokens = domain.trainTokens + domain.validationTokens
    return {
      ...domain,
      // A mix without shares holds everything once.
      share: outcome?.share ?? (mix.trainTokens === 0 ? 0 : domain.trainTokens / mix.trainTokens),
      epochs: outcome?.epochs ?? 1,
      warning: outcome?.warning ?? 'none',
      bytesPerToken: tokens === 0 ? null : domain.bytes / tokens,
    }
  })
}
