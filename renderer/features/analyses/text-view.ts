/** What a routed text shows of a token: its tint by a chosen quantity, and where an expert fires. Pure; tints are CSS colours. */
import type { RoutedText } from '#core/shared/analyses.ts'
import { wilsonInterval } from '#core/shared/routing-statistics.ts'
import { expertHue } from '#renderer/ui/colour.ts'

export const colourings = ['expert', 'entropy', 'loss', 'selected', 'change'] as const
export type Coloring = (typeof colourings)[number]
export type Chosen = { layer: number; expert: number }

/** Nats at which the tints of loss and of its change are full. */
const [fullLoss, fullChange] = [6, 2]

const mix = (colour: string, share: number): string => `color-mix(in oklch, var(${colour}) ${Math.round(100 * Math.min(1, Math.max(0, share)))}%, transparent)`

export type Tinted = { routed: RoutedText; coloring: Coloring; /** An index of the layers. */ layer: number; chosen: Chosen | null; before: RoutedText | null }

/** The gate of an expert for a token, 0 where it is not among its top k. `layer` is an index. */
export function gateOf(routed: RoutedText, token: number, layer: number, expert: number): number {
  const { experts, weights } = routed.tokens[token]!.layers[layer]!
  const place = experts.indexOf(expert)
  return place < 0 ? 0 : weights[place]!
}

export function tintOf({ routed, coloring, layer, chosen, before }: Tinted, token: number): string {
  const { layers, entropy, loss } = routed.tokens[token]!
  if (coloring === 'expert') return `oklch(var(--expert-tint-l) var(--expert-tint-c) ${expertHue(layers[layer]!.experts[0]!).toFixed(1)})`
  if (coloring === 'entropy') return mix('--more', entropy[layer]!)
  if (coloring === 'loss') return mix('--more', (loss ?? 0) / fullLoss)
  if (coloring === 'selected') return chosen ? mix('--more', gateOf(routed, token, chosen.layer, chosen.expert)) : 'transparent'
  const change = changeOf(routed, before, token)
  return mix(change < 0 ? '--less' : '--more', Math.abs(change) / fullChange)
}

/** Loss with less loss without the intervention, in nats. */
export const changeOf = (routed: RoutedText, before: RoutedText | null, token: number): number => (routed.tokens[token]!.loss ?? 0) - (before?.tokens[token]?.loss ?? routed.tokens[token]!.loss ?? 0)

export type Firing = { tokens: number[]; first: number; share: number; interval: [number, number]; n: number }

/** Tokens that an expert of a layer (an index) serves, in the order of the text, and their share with its 95 % interval. */
export function firingsOf(routed: RoutedText, layer: number, expert: number): Firing {
  const n = routed.tokens.length
  const tokens = routed.tokens.flatMap((token, i) => (token.layers[layer]!.experts.includes(expert) ? [i] : []))
  const first = tokens.filter((i) => routed.tokens[i]!.layers[layer]!.experts[0] === expert).length
  return { tokens, first, share: n > 0 ? tokens.length / n : 0, interval: wilsonInterval(tokens.length, n), n }
}
