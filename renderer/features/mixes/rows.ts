/** The rows of a built mix: what each source has, and its part of one pass. */
import type { MixDetails, MixDomain, SourceOutcome } from '#core/shared/mixes.ts'

export type MixRow = MixDomain & { share: number; warning: SourceOutcome['warning']; bytesPerToken: number | null }

export function rowsOf({ mix, outcomes }: Pick<MixDetails, 'mix' | 'outcomes'>): MixRow[] {
  const passTokens = mix.domains.reduce((sum, { trainTokens, epochs }) => sum + trainTokens * epochs, 0)
  return mix.domains.map((domain) => {
    const outcome = outcomes.find(({ name }) => name === domain.name)
    const tokens = domain.trainTokens + domain.validationTokens
    return {
      ...domain,
      share: passTokens === 0 ? 0 : (domain.trainTokens * domain.epochs) / passTokens,
      warning: outcome?.warning ?? 'none',
      bytesPerToken: tokens === 0 ? null : domain.bytes / tokens,
    }
  })
}
