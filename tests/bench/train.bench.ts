/**
 * G5–G9, G13, G14: the training step, small (width 256, 8 layers, 16 experts of 256, 4 per token; 8 x 512 tokens) and medium (width 512,
 * 8 layers, 64 experts of 256, 8 per token; 4 x 512 tokens). Peers of the bars are transformers on PyTorch, which cannot be installed
 * here; their numbers were measured on a machine of this kind, not in this run, and are quoted as such. Twins are our own, in turns.
 */
import { spawn, spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { interleave, median, ratioOf, spreadOf, type Bench, type BenchContext } from './measure.ts'
import { openStepper, type ShapeName, type Stepper } from './step.ts'

const rounds = 5
/** tokens/s of transformers: best (compiled, pure bf16) and stock float32, and peak MB of the latter. */
const quoted: Partial<Record<ShapeName, { goal: number; best: number; stock: number; stockMegabytes: number; memory: number }>> = {
  small: { goal: 4450, best: 2012, stock: 1147, stockMegabytes: 2995, memory: 0.4 },
  medium: { goal: 1200, best: 538, stock: 268, stockMegabytes: 5441, memory: 0.8 },
}

/** Seconds of a step by the clock, and by the processor time of all threads divided by their number: what it takes where no core is taken away. */
type Times = { wall: number[]; busy: number[] }

async function timedStep(backend: CpuBackend, stepper: Stepper, into: Times): Promise<number> {
  const before = process.cpuUsage()
  into.wall.push(await stepper.step())
  const used = process.cpuUsage(before)
  into.busy.push((used.user + used.system) / 1e6 / backend.threads)
  return into.wall.at(-1)!
}

/** Two shapes in turns: speed and share of the peak of the first, and how much longer it takes than the second. */
async function pair({ show }: BenchContext, first: ShapeName, second: ShapeName, goal: string): Promise<void> {
  const backend = createCpuBackend({ precision: 'mixed' })
  const [a, b] = [await openStepper(backend, first), await openStepper(backend, second)]
  await a.step()
  await b.step()
  const [ofA, ofB]: Times[] = [{ wall: [], busy: [] }, { wall: [], busy: [] }]
  const { peak } = await interleave(rounds, { a: () => timedStep(backend, a, ofA!), b: () => timedStep(backend, b, ofB!), peak: async () => 1 / (await backend.measurePeak()) })
  // Beside other work all cores are rarely free at once, one is: processor time is held against the peak of one core, times their number.
  const alone = createCpuBackend({ precision: 'mixed', threads: 1 })
  const peakOf = { wall: Math.min(...peak), busy: 1 / (backend.threads * (await alone.measurePeak())) }
  await alone.close()
  const known = quoted[first]
  for (const [clock, label] of [['wall', 'by the clock'], ['busy', 'by processor time']] as const) {
    const [timesA, timesB] = [ofA![clock], ofB![clock]]
    if (known) {
      const speeds = timesA.map((seconds) => a.tokens / seconds)
      show({ group: 'G5', name: `${first}, ${backend.precision}, ${label}`, value: median(speeds), unit: 'tokens/s', peer: `best transformers (absent; ${known.best} quoted), stock (absent; ${known.stock} quoted)`, ratio: null, spread: spreadOf(speeds), goal: `about ${known.goal}` })
      const shares = timesA.map((seconds) => (a.flops / seconds) * peakOf[clock])
      show({ group: 'G7', name: `${first}, model FLOPs, ${label}`, value: median(shares), unit: 'of peak', peer: 'measured peak', ratio: Math.max(...shares), medianRatio: median(shares), spread: spreadOf(shares), goal: '>= 0.60' })
    }
    const ratios = timesA.map((seconds, i) => seconds / timesB[i]!)
    show({ group: 'G8', name: `${first} / ${second}, ${label}`, value: median(ratios), unit: 'x', peer: second, ...ratioOf(timesA, timesB), spread: spreadOf(ratios), goal })
  }
  await backend.close()
}

/** Memory and start of a process of its own. */
function ofProcess({ show }: BenchContext, name: ShapeName): void {
  const run = spawnSync(process.execPath, [join(import.meta.dirname, 'step-process.ts'), name, 'mixed'], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`step-process ${name}: ${run.stderr}`)
  const found = JSON.parse(run.stdout) as { processBytes: number; openSeconds: number; seconds: number[]; peakBytes: number; plannedBytes: number }
  const known = quoted[name]!
  const megabytes = found.peakBytes / 1e6
  show({ group: 'G9', name: `${name}, peak resident`, value: megabytes, unit: 'MB', peer: `transformers float32 (absent; ${known.stockMegabytes} MB quoted)`, ratio: null, spread: [megabytes, megabytes], goal: `<= ${(known.memory * known.stockMegabytes).toFixed(0)}` })
  // What Node takes with this program loaded and nothing opened is no part of a plan, and as much for a large model.
  const beyondProcess = (found.peakBytes - found.processBytes) / found.plannedBytes
  show({ group: 'G9', name: `${name}, peak resident / planned`, value: found.peakBytes / found.plannedBytes, unit: 'x', peer: `the plan of ${(found.plannedBytes / 1e6).toFixed(0)} MB; ${beyondProcess.toFixed(3)} x without the ${(found.processBytes / 1e6).toFixed(0)} MB of the process before it`, ratio: null, spread: [beyondProcess, found.peakBytes / found.plannedBytes], goal: '<= 1.10' })
  const [first, ...others] = found.seconds
  const extra = first! - Math.min(...others)
  show({ group: 'G14', name: `${name}, first step beyond a later one`, value: extra, unit: 's', peer: `of ${first!.toFixed(2)} s; weights drawn and written before in ${found.openSeconds.toFixed(2)} s`, ratio: null, spread: [extra, extra], goal: '<= 0.5' })
}

/** The same step alone and beside a process that keeps one core busy. */
async function neighbour({ show }: BenchContext): Promise<void> {
  const backend = createCpuBackend({ precision: 'mixed' })
  const stepper = await openStepper(backend, 'two layers, 16 experts')
  await stepper.step()
  const pinned = process.platform === 'linux' ? ['taskset', ['-c', '0', process.execPath, '-e', 'for (;;);']] as const : [process.execPath, ['-e', 'for (;;);']] as const
  const times = await interleave(rounds, {
    alone: () => stepper.step(),
    beside: async () => {
      const busy = spawn(pinned[0], [...pinned[1]], { stdio: 'ignore' })
      await new Promise((resolve) => setTimeout(resolve, 100))
      const seconds = await stepper.step()
      busy.kill('SIGKILL')
      return seconds
    },
  })
  const ratios = times.beside.map((seconds, i) => seconds / times.alone[i]!)
  show({ group: 'G13', name: `step beside a busy core of ${cpus().length} / alone`, value: median(ratios), unit: 'x', peer: 'itself alone', ratio: median(ratios), spread: spreadOf(ratios), goal: '<= 2.2' })
  await backend.close()
}

const parts: Record<string, (context: BenchContext) => Promise<void>> = {
  process: async (context) => {
    for (const name of ['small', 'medium'] as const) ofProcess(context, name)
  },
  small: (context) => pair(context, 'small', 'small, dense twin', '<= 1.15'),
  medium: (context) => pair(context, 'medium', 'medium, dense twin', '<= 1.15'),
  experts: (context) => pair(context, 'two layers, 256 experts', 'two layers, 16 experts', '<= 1.25'),
  neighbour,
}

export const bench: Bench = {
  title: 'training step',
  async run(context) {
    const { only } = context
    if (only !== undefined && !(only in parts)) throw new Error(`train has no part "${only}", it has: ${Object.keys(parts).join(', ')}`)
    for (const [name, part] of Object.entries(parts)) if (only === undefined || only === name) await part(context)
  },
}
