/**
 * From shares to epochs: how many tokens of each source one pass over a mix holds, and how often that repeats a source's text. A source
 * that would be repeated more than the cap gives what it has at the cap; the rest is shared out among the others.
 */

export type ShareRow = {
  name: string
  /** Training tokens that there are. */
  available: number
  /** Tokens of one pass over the mix. */
  tokens: number
  share: number
  /** Times that a pass sees the source's text. */
  epochs: number
  warning: 'none' | 'capped' | 'repeated'
}

/** Repeating text more often than this teaches little more (Muennighoff et al., 2023). */
const usefulRepetition = 4

/** `shares` null is the natural mix. Shares need not sum to 1; a source without one gets none. `totalTokens` null: as many as there are. */
export function planShares(sources: readonly { name: string; available: number }[], shares: Record<string, number> | null, { maxEpochs = usefulRepetition, totalTokens = null }: { maxEpochs?: number; totalTokens?: number | null } = {}): ShareRow[] {
  const all = sources.reduce((sum, { available }) => sum + available, 0)
  const wanted = sources.map(({ name, available }) => (shares === null ? available : (shares[name] ?? 0)))
  const total = totalTokens ?? all
  const tokens = sources.map(() => 0)
  const capped = new Set<number>()
  for (;;) {
    const open = sources.map((_, i) => i).filter((i) => !capped.has(i))
    const taken = [...capped].reduce((sum, i) => sum + tokens[i]!, 0)
    const weight = open.reduce((sum, i) => sum + wanted[i]!, 0)
    if (weight === 0) break
    for (const i of open) tokens[i] = ((total - taken) * wanted[i]!) / weight
    const over = open.filter((i) => tokens[i]! > sources[i]!.available * maxEpochs)
    if (over.length === 0) break
    for (const i of over) {
      capped.add(i)
      tokens[i] = sources[i]!.available * maxEpochs
    }
  }
  const sum = tokens.reduce((a, b) => a + b, 0)
  return sources.map(({ name, available }, i) => {
    const epochs = available === 0 ? 0 : tokens[i]! / available
    return { name, available, tokens: Math.round(tokens[i]!), share: sum === 0 ? 0 : tokens[i]! / sum, epochs, warning: capped.has(i) ? 'capped' : epochs > usefulRepetition ? 'repeated' : 'none' }
  })
}
