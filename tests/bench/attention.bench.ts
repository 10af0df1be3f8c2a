/**
 * G4: causal attention, heads of 64. The bar is PyTorch's SDPA, which cannot be installed here: its 70 and 78 GFLOP/s (forward and
 * backward, bf16, T = 512) were measured on a machine of this kind, not in this run, and are quoted as such.
 */
import { persistent, type Recording, type Tensor } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { interleave, median, ratioOf, repeatsFor, spreadOf, timedOp, type Bench } from './measure.ts'

const rounds = 25
const [heads, width, tokens] = [8, 64, 4096]
const quoted: Record<string, number> = { 'forward 512': 70, 'backward 512': 78 }

export const bench: Bench = {
  title: 'attention',
  async run({ show }) {
    for (const precision of ['mixed', 'float32'] as const) {
      const backend = createCpuBackend({ precision })
      const D = heads * width
      const sources = ['q', 'k', 'v', 'dO'].map((name) => persistent(name, [tokens, D]))
      const positions = persistent('positions', [tokens], 'i32')
      backend.allocate([...sources, positions])
      for (const tensor of sources) await backend.write(tensor, Float32Array.from({ length: tokens * D }, (_, i) => 2 * (((i * 7919) % 1009) / 1009 - 0.5)))
      const operands = (b: Recording): Tensor[] => sources.map((x) => {
        const y = b.scratch(x.name, x.shape)
        b.ropeForward({ y, x, positions, H: heads, theta: 10000 })
        return y
      })
      for (const sequence of [512, 2048]) {
        const shape = { H: heads, G: heads, sequence }
        const useful = 2 * tokens * sequence * D
        const repeats = repeatsFor(useful, 1e11)
        const outputs = (b: Recording) => [b.scratch('o', [tokens, D]), b.scratch('lse', [tokens, heads])] as const
        const forward = await timedOp(backend, 'attentionForward', repeats, (b) => {
          const [q, k, v] = operands(b) as [Tensor, Tensor, Tensor]
          const [o, lse] = outputs(b)
          return () => b.attentionForward({ o, lse, q, k, v, ...shape })
        })
        const backward = await timedOp(backend, 'attentionBackward', Math.ceil(repeats / 2), (b) => {
          const [q, k, v, dO] = operands(b) as [Tensor, Tensor, Tensor, Tensor]
          const [o, lse] = outputs(b)
          b.attentionForward({ o, lse, q, k, v, ...shape })
          const [dQ, dK, dV] = ['dQ', 'dK', 'dV'].map((name) => b.scratch(name, [tokens, D])) as [Tensor, Tensor, Tensor]
          return () => b.attentionBackward({ dQ, dK, dV, dO, q, k, v, o, lse, ...shape })
        })
        const times = await interleave(rounds, { forward, backward, peak: async () => useful / (await backend.measurePeak()) })
        for (const [name, factor] of [['forward', 1], ['backward', 2.5]] as const) {
          const speeds = times[name].map((seconds) => (factor * useful) / seconds / 1e9)
          const torch = precision === 'mixed' ? quoted[`${name} ${sequence}`] : undefined
          const goal = torch === undefined ? undefined : `>= ${name === 'forward' ? 3 * torch : 2 * torch} GFLOP/s (torch absent; ${torch} quoted)`
          show({ group: 'G4', name: `attention ${name} ${backend.precision} T=${sequence}`, value: median(speeds), unit: 'GFLOP/s', peer: 'measured peak', ratio: factor * ratioOf(times.peak, times[name]).ratio, medianRatio: factor * ratioOf(times.peak, times[name]).medianRatio, spread: spreadOf(speeds), ...(goal && { goal }) })
        }
      }
      await backend.close()
    }
  },
}
