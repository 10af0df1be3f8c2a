/** G4: causal attention, heads of 64, against PyTorch's SDPA of the same precision in turns, and against the measured peak. */
import { persistent, type Recording, type Tensor } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { interleave, median, ratioOf, repeatsFor, spreadOf, timedOp, type Bench } from './measure.ts'
import { openTorch } from './torch.ts'

const rounds = 25
const [heads, width, tokens] = [8, 64, 4096]
const goals: Record<string, string> = { 'forward mixed 512': '>= 3', 'backward mixed 512': '>= 2' }

export const bench: Bench = {
  title: 'attention',
  async run({ show }) {
    for (const precision of ['mixed', 'float32'] as const) {
      const backend = createCpuBackend({ precision })
      const torch = await openTorch(backend.threads)
      const dtype = backend.precision === 'mixed' ? 'bf16' : 'f32'
      const peerName = `torch${torch ? ` ${torch.versions.torch}` : ''} SDPA ${dtype}${torch ? '' : ': absent'}`
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
        const ask = { op: 'attention', dtype, tokens, sequence, heads, width }
        const peers = torch && {
          torchForward: () => torch.ask({ ...ask, repeats: Math.ceil(repeats / 3), backward: false }),
          torchBackward: () => torch.ask({ ...ask, repeats: Math.ceil(repeats / 6), backward: true }),
        }
        const times = await interleave<string>(rounds, { forward, backward, ...peers, peak: async () => useful / (await backend.measurePeak()) })
        for (const [name, peer, factor] of [['forward', 'torchForward', 1], ['backward', 'torchBackward', 2.5]] as const) {
          const of = times[name]!
          const speeds = of.map((seconds) => (factor * useful) / seconds / 1e9)
          const row = { group: 'G4', name: `attention ${name} ${backend.precision} T=${sequence}`, value: median(speeds), unit: 'GFLOP/s', spread: spreadOf(speeds) }
          const goal = goals[`${name} ${backend.precision} ${sequence}`]
          show({ ...row, peer: peerName, ...(torch ? ratioOf(times[peer]!, of) : { ratio: null }), ...(goal && { goal }) })
          const { ratio, medianRatio } = ratioOf(times.peak!, of)
          show({ ...row, peer: 'measured peak', ratio: factor * ratio, medianRatio: factor * medianRatio })
        }
      }
      torch?.close()
      await backend.close()
    }
  },
}
