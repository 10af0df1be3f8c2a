/** What an adapter can do at most, measured with kernels that do nothing else: multiply-adds, and bytes copied. */
import type { Tensor } from '../backend.ts'
import type { Dispatch } from './call.ts'

/** Runs dispatches on tensors of a backend and gives the seconds that n replays took. */
export type ProbeRunner = {
  allocate(name: string, elements: number): Tensor
  release(tensor: Tensor): void
  time(dispatches: readonly Dispatch[]): Promise<(times: number) => Promise<number>>
}

/** Seconds of the fastest of three runs of at least `leastSeconds`. */
async function fastest(run: (times: number) => Promise<number>, leastSeconds: number): Promise<number> {
  await run(1)
  let times = 1
  let seconds = await run(times)
  while (seconds < leastSeconds && times < 4096) {
    times = Math.min(4096, Math.max(2 * times, Math.ceil((times * leastSeconds) / Math.max(seconds, 1e-6))))
    seconds = await run(times)
  }
  let best = seconds / times
  for (let again = 0; again < 2; again++) best = Math.min(best, (await run(times)) / times)
  return best
}

/** FLOP/s of float32 multiply-adds in registers (two each). */
export async function measurePeak(runner: ProbeRunner): Promise<number> {
  const [groups, rounds] = [1024, 64]
  const out = runner.allocate('peak', groups * 64)
  const slice = { tensor: out, byteOffset: 0, byteLength: groups * 64 * 4 }
  const run = await runner.time([{ op: 'sumOfSquares', kernel: 'peak', scalar: false, slices: { out: slice }, params: { rounds }, groups: [groups, 1, 1] }])
  const seconds = await fastest(run, 0.05)
  runner.release(out)
  return (groups * 64 * rounds * 16 * 8 * 2) / seconds
}

/** Bytes per second of copying `bytes` from one tensor to another, both directions counted. */
export async function measureBandwidth(runner: ProbeRunner, bytes: number): Promise<number> {
  const count = Math.floor(bytes / 1024) * 256
  const [from, to] = [runner.allocate('from', count), runner.allocate('to', count)]
  const slice = (tensor: Tensor) => ({ tensor, byteOffset: 0, byteLength: count * 4 })
  const groups = Math.min(4096, Math.ceil(count / 256))
  const run = await runner.time([{ op: 'gatherRowsForward', kernel: 'bandwidth', scalar: false, slices: { source: slice(from), copy: slice(to) }, params: { count: count / 4 }, groups: [groups, 1, 1] }])
  const seconds = await fastest(run, 0.05)
  runner.release(from)
  runner.release(to)
  return (2 * count * 4) / seconds
}
