/**
 * G5–G9, G13, G14: the training step, small (width 256, 8 layers, 16 experts of 256, 4 per token; 8 x 512 tokens) and medium (width 512,
 * 8 layers, 64 experts of 256, 8 per token; 4 x 512 tokens), in turns with transformers' OlmoeForCausalLM, in its fastest configuration and
 * in float32 as it is installed, and with our own twins.
 */
import { spawn, spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { interleave, median, ratioOf, spreadOf, type Bench, type BenchContext } from './measure.ts'
import { openStepper, type ShapeName, type Stepper } from './step.ts'
import { openTransformers, type Transformers, type TransformersKind } from './torch.ts'

const rounds = 5
/** Tokens/s over transformers' at its fastest and as it is installed; peak memory over the latter's. */
const bars: Partial<Record<ShapeName, Record<TransformersKind, string> & { memory: string }>> = {
  small: { fastest: '>= 2', stock: '>= 3.5', memory: '<= 0.40' },
  medium: { fastest: '>= 2', stock: '>= 4', memory: '<= 0.80' },
}
const kinds = ['fastest', 'stock'] as const

/** Seconds of a step by the clock, and by the processor time of all threads divided by their number: what it takes where no core is taken away. */
type Times = { wall: number[]; busy: number[] }

async function timedStep(backend: CpuBackend, stepper: Stepper, into: Times): Promise<number> {
  const before = process.cpuUsage()
  into.wall.push(await stepper.step())
  const used = process.cpuUsage(before)
  into.busy.push((used.user + used.system) / 1e6 / backend.threads)
  return into.wall.at(-1)!
}

/** Own speed beside that of each rival, which took its steps in turns with ours; and its share of the peak. */
function showSpeed({ show }: BenchContext, name: ShapeName, { tokens, flops }: Stepper, { wall, busy }: Times, peakOf: { wall: number; busy: number }, rivals: { kind: TransformersKind; rival: Transformers; times: readonly number[] | undefined }[]): void {
  const speedRow = (times: readonly number[]) => {
    const speeds = times.map((seconds) => tokens / seconds)
    return { value: median(speeds), unit: 'tokens/s', spread: spreadOf(speeds) }
  }
  for (const { kind, rival, times } of rivals) {
    const theirs = times ? `${rival.name} (${(tokens / median(times)).toFixed(0)} tokens/s)` : rival.name
    show({ group: kind === 'fastest' ? 'G5' : 'G6', name: `${name}, mixed, by the clock`, ...speedRow(wall), peer: theirs, ...(times ? ratioOf(times, wall) : { ratio: null }), goal: bars[name]![kind] })
  }
  show({ group: 'G5', name: `${name}, mixed, by processor time`, ...speedRow(busy), peer: 'no peer', ratio: null })
  for (const [times, peak, label] of [[wall, peakOf.wall, 'by the clock'], [busy, peakOf.busy, 'by processor time']] as const) {
    const shares = times.map((seconds) => (flops / seconds) * peak)
    show({ group: 'G7', name: `${name}, model FLOPs, ${label}`, value: median(shares), unit: 'of peak', peer: 'measured peak', ratio: Math.max(...shares), medianRatio: median(shares), spread: spreadOf(shares), goal: '>= 0.60' })
  }
}

/** Two shapes in turns, and transformers where the first has bars: speed and share of the peak of the first, and how much longer it takes than the second. */
async function pair(context: BenchContext, first: ShapeName, second: ShapeName, goal: string): Promise<void> {
  const backend = createCpuBackend({ precision: 'mixed' })
  const rivals: { kind: TransformersKind; rival: Transformers }[] = []
  for (const kind of bars[first] ? kinds : []) rivals.push({ kind, rival: await openTransformers(first, kind, backend.threads) })
  const [a, b] = [await openStepper(backend, first), await openStepper(backend, second)]
  await a.step()
  await b.step()
  const [ofA, ofB]: Times[] = [{ wall: [], busy: [] }, { wall: [], busy: [] }]
  const asks = Object.fromEntries(rivals.flatMap(({ kind, rival }) => (rival.step ? [[kind, rival.step]] : [])))
  const times = await interleave<string>(rounds, { a: () => timedStep(backend, a, ofA!), b: () => timedStep(backend, b, ofB!), ...asks, peak: async () => 1 / (await backend.measurePeak()) })
  for (const { rival } of rivals) rival.close()
  // Beside other work all cores are rarely free at once, one is: processor time is held against the peak of one core, times their number.
  const alone = createCpuBackend({ precision: 'mixed', threads: 1 })
  const peakOf = { wall: Math.min(...times.peak!), busy: 1 / (backend.threads * (await alone.measurePeak())) }
  await alone.close()
  if (bars[first]) showSpeed(context, first, a, ofA!, peakOf, rivals.map((one) => ({ ...one, times: times[one.kind] })))
  for (const [clock, label] of [['wall', 'by the clock'], ['busy', 'by processor time']] as const) {
    const [timesA, timesB] = [ofA![clock], ofB![clock]]
    const ratios = timesA.map((seconds, i) => seconds / timesB[i]!)
    context.show({ group: 'G8', name: `${first} / ${second}, ${label}`, value: median(ratios), unit: 'x', peer: second, ...ratioOf(timesA, timesB), spread: spreadOf(ratios), goal })
  }
  await backend.close()
}

/** Memory and start of a process of its own. */
async function ofProcess({ show }: BenchContext, name: ShapeName): Promise<void> {
  const run = spawnSync(process.execPath, [join(import.meta.dirname, 'step-process.ts'), name, 'mixed'], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`step-process ${name}: ${run.stderr}`)
  const found = JSON.parse(run.stdout) as { openSeconds: number; seconds: number[]; peakBytes: number; plannedBytes: number }
  const megabytes = found.peakBytes / 1e6
  const rival = await openTransformers(name, 'stock', cpus().length)
  await rival.step?.()
  const theirs = rival.step && (await rival.peakBytes())
  rival.close()
  show({ group: 'G9', name: `${name}, peak resident`, value: megabytes, unit: 'MB', peer: theirs ? `${rival.name} (${(theirs / 1e6).toFixed(0)} MB)` : rival.name, ratio: theirs ? found.peakBytes / theirs : null, spread: [megabytes, megabytes], goal: bars[name]!.memory })
  const beyond = found.peakBytes / found.plannedBytes
  show({ group: 'G9', name: `${name}, peak resident / planned`, value: beyond, unit: 'x', peer: `the plan of ${(found.plannedBytes / 1e6).toFixed(0)} MB, the program among it`, ratio: null, spread: [beyond, beyond], goal: '<= 1.10' })
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
    for (const name of ['small', 'medium'] as const) await ofProcess(context, name)
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
