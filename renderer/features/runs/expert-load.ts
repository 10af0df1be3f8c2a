/**
 * Expert load over time and what is read off it. A frame is float32 [layers × experts], each value the expert's share of
 * its layer's assignments times the number of experts: 1 is fair, 0 is dead.
 */
export type LoadFrames = { layers: number; experts: number; steps: number[]; frames: Float32Array[] }

/** Below this ratio an expert counts as dead, above the other as overloaded. */
export const deadBelow = 0.1
export const overloadedAbove = 3

/** Frames of what the core sends: shares, all points in one array. */
export function framesOfShares(steps: number[], layers: number, experts: number, shares: Float32Array): LoadFrames {
  const size = layers * experts
  const frames = steps.map((_, i) => shares.subarray(i * size, (i + 1) * size).map((share) => share * experts))
  return { layers, experts, steps, frames }
}

/** The frame of one step's counts, [layers × experts] row-major. A layer without assignments is all zero. */
export function frameOfCounts(counts: readonly number[], experts: number): Float32Array {
  const frame = new Float32Array(counts.length)
  for (let start = 0; start < counts.length; start += experts) {
    let sum = 0
    for (let e = 0; e < experts; e++) sum += counts[start + e]!
    for (let e = 0; e < experts; e++) frame[start + e] = sum === 0 ? 0 : (counts[start + e]! * experts) / sum
  }
  return frame
}

/** Mean of the frames from `first` up to and with `last`. */
export function meanFrame(load: LoadFrames, first: number, last: number): Float32Array {
  const mean = new Float32Array(load.layers * load.experts)
  const n = last - first + 1
  for (let i = first; i <= last; i++) load.frames[i]!.forEach((value, cell) => (mean[cell]! += value / n))
  return mean
}

export type LayerUse = {
  /** In the model, dense layers counted. */
  layer: number
  /** exp(entropy) of the shares: how many experts the layer would use at this spread if it used them equally. */
  effective: number
  busiest: { expert: number; ratio: number }
  idlest: { expert: number; ratio: number }
  dead: number[]
  overloaded: number[]
}

/** What each of `layers`, those of the model that have experts, makes of them. */
export function layerUse(frame: Float32Array, layers: readonly number[], experts: number): LayerUse[] {
  return layers.map((layer, row) => {
    const ratios = [...frame.subarray(row * experts, (row + 1) * experts)]
    const busiest = ratios.indexOf(Math.max(...ratios))
    const idlest = ratios.indexOf(Math.min(...ratios))
    const entropy = ratios.reduce((sum, ratio) => (ratio > 0 ? sum - (ratio / experts) * Math.log(ratio / experts) : sum), 0)
    const where = (test: (ratio: number) => boolean) => ratios.flatMap((ratio, expert) => (test(ratio) ? [expert] : []))
    return {
      layer,
      effective: Math.exp(entropy),
      busiest: { expert: busiest, ratio: ratios[busiest]! },
      idlest: { expert: idlest, ratio: ratios[idlest]! },
      dead: where((ratio) => ratio < deadBelow),
      overloaded: where((ratio) => ratio > overloadedAbove),
    }
  })
}
