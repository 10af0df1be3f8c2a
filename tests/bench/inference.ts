/**
 * Inference on random 4-bit weights of two shapes: decoding against the read bandwidth that is measured in the same seconds, decoding
 * and prompts against llama.cpp (llama.ts) on the same shape, all in turns; several
 * sequences at once against one; and the time from a cold start to the first token. MOE_BENCH_FOLDER is where the files of the models are made
 * (8 GB for OLMoE-1B-7B and its GGUF; default: the system's temporary folder) and deleted from again.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { argmax } from '#core/model/sampling.ts'
import { createSequences, type Sequences } from '#core/model/sequences.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { openLlama, type Peer } from './llama.ts'
import { median } from './measure.ts'
import { writeRandomGguf } from './random-gguf.ts'
import { bytesPerToken, medium, olmoe7B, writeRandomModel } from './random-model.ts'

export type InferenceRow = { name: string; value: number; unit: string; peer: string; ratio: number | null; spread: [number, number] }
type Show = (row: InferenceRow) => void
type Shape = { name: string; config: ModelConfig; needBytes: number; decodeTokens: number; rounds: number }

const shapes: Shape[] = [
  { name: '227M', config: medium, needBytes: 0.4e9, decodeTokens: 64, rounds: 9 },
  { name: '1B-7B', config: olmoe7B, needBytes: 8.5e9, decodeTokens: 32, rounds: 5 },
]
const promptTokens = 512
const manySequences = 8
/** Threads that spin after their work settle before the next is timed. */
const settle = (): Promise<void> => delay(150)

const idsOf = (count: number, config: ModelConfig, salt: number): number[] => Array.from({ length: count }, (_, i) => (i * 7919 + salt * 31 + 1) % config.vocab_size)


/** Seconds per token: the median of `count` greedy steps after a few tokens. */
async function decode(sequences: Sequences, config: ModelConfig, count: number, salt: number): Promise<number> {
  sequences.truncate(0, 0)
  const times: number[] = []
  let logits = await sequences.feed(0, idsOf(4, config, salt))
  while (times.length < count) {
    const startedAt = performance.now()
    logits = await sequences.feed(0, [argmax(logits)])
    times.push((performance.now() - startedAt) / 1000)
  }
  return median(times)
}

async function prefill(sequences: Sequences, config: ModelConfig, salt: number): Promise<number> {
  sequences.truncate(0, 0)
  const startedAt = performance.now()
  await sequences.feed(0, idsOf(promptTokens, config, salt))
  return (performance.now() - startedAt) / 1000
}

/** Seconds per token and sequence of steps of several sequences. */
async function decodeMany(sequences: Sequences, config: ModelConfig, steps: number): Promise<number> {
  const times: number[] = []
  for (let i = 0; i < steps + 2; i++) {
    const startedAt = performance.now()
    await sequences.step(Array.from({ length: manySequences }, (_, sequence) => ({ sequence, id: (i * 7919 + sequence * 101) % config.vocab_size })))
    times.push((performance.now() - startedAt) / 1000 / manySequences)
  }
  return median(times.slice(2))
}

type Round = { bandwidth: number; decode: number; prefill: number; peerDecode: number | null; peerPrefill: number | null }

async function runRounds(backend: CpuBackend, shape: Shape, sequences: Sequences, peer: Peer | null): Promise<Round[]> {
  const rounds: Round[] = []
  await prefill(sequences, shape.config, 0)
  await decode(sequences, shape.config, 8, 0)
  if (peer) {
    await peer.prefill(idsOf(promptTokens, shape.config, 0))
    await peer.decode(8)
  }
  for (let round = 1; round <= shape.rounds; round++) {
    const before = await backend.measureBandwidth()
    const decoded = await decode(sequences, shape.config, shape.decodeTokens, round)
    const bandwidth = (before + (await backend.measureBandwidth())) / 2
    await settle()
    const peerDecode = peer ? await peer.decode(shape.decodeTokens) : null
    await settle()
    const filled = await prefill(sequences, shape.config, round)
    await settle()
    const peerPrefill = peer ? await peer.prefill(idsOf(promptTokens, shape.config, round)) : null
    await settle()
    rounds.push({ bandwidth, decode: decoded, prefill: filled, peerDecode, peerPrefill })
  }
  return rounds
}

/**
 * One row: speeds of ours beside the peer's, median and spread, and a ratio: of the floor, which moves with the machine, the median of the
 * rounds' ratios; of a program, fastest round by fastest round, since other work on the machine slows the two down differently.
 */
function rowOf(name: string, rounds: readonly Round[], speed: (round: Round) => number, peerName: string, peer: (round: Round) => number | null, by: 'round' | 'fastest'): InferenceRow {
  const speeds = rounds.map(speed)
  const peers = rounds.flatMap((round) => peer(round) ?? [])
  const ratios = rounds.flatMap((round) => (peer(round) === null ? [] : [speed(round) / peer(round)!]))
  const its = peers.length > 0 ? `: ${median(peers).toFixed(1)} (${Math.min(...peers).toFixed(1)} – ${Math.max(...peers).toFixed(1)})` : ''
  return { name, value: median(speeds), unit: 'tokens/s', peer: `${peerName}${its}`, ratio: ratios.length === 0 ? null : by === 'round' ? median(ratios) : Math.max(...speeds) / Math.max(...peers), spread: [Math.min(...speeds), Math.max(...speeds)] }
}

/** Drops a file from the page cache, where the system has a way to ask for it. */
function forget(path: string): boolean {
  try {
    execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Seconds from starting a process that has nothing in memory to its first token. */
async function coldStart(folder: string): Promise<number | null> {
  if (!forget(join(folder, 'model.packed'))) return null
  const startedAt = performance.now()
  const child = spawn(process.execPath, ['core/cli.ts', 'generate', '--json', '--model', folder, '--prompt-ids', '[11,22,33,44,55,66,77,88]', '--max', '1', '--temperature', '0'], { stdio: 'ignore' })
  const code = await new Promise<number | null>((resolve) => child.on('exit', resolve))
  return code === 0 ? (performance.now() - startedAt) / 1000 : null
}

async function benchShape(shape: Shape, folder: string, show: Show): Promise<void> {
  const { name, config } = shape
  const [own, gguf] = [join(folder, name), join(folder, `${name}.gguf`)]
  await writeRandomModel(own, config, 'q4')
  const starts: number[] = []
  for (let i = 0; i < 3; i++) {
    const seconds = await coldStart(own)
    if (seconds !== null) starts.push(seconds)
  }
  if (starts.length > 0) show({ name: `${name} q4, cold start to token`, value: median(starts), unit: 's', peer: '', ratio: null, spread: [Math.min(...starts), Math.max(...starts)] })

  const hasPeer = process.env.MOE_LLAMA !== undefined
  if (hasPeer) await writeRandomGguf(gguf, config)
  const peer = hasPeer ? await openLlama(gguf, availableParallelism()) : null
  const peerName = peer?.name ?? 'llama.cpp, which is absent'
  const backend = createCpuBackend({})
  const { weights } = loadPackedModel(backend, own)
  const sequences = createSequences(backend, config, weights, { count: 1, capacity: promptTokens + shape.decodeTokens + 8 })
  const rounds = await runRounds(backend, shape, sequences, peer)
  const bytes = bytesPerToken(config, 'q4')
  const decodeSpeed = (round: Round): number => 1 / round.decode
  show(rowOf(`${name} q4, decode`, rounds, decodeSpeed, `the floor at ${(median(rounds.map((round) => round.bandwidth)) / 1e9).toFixed(1)} GB/s`, (round) => round.bandwidth / bytes, 'round'))
  show(rowOf(`${name} q4, decode`, rounds, decodeSpeed, peerName, (round) => (round.peerDecode === null ? null : 1 / round.peerDecode), 'fastest'))
  show(rowOf(`${name} q4, prompt of ${promptTokens}`, rounds, (round) => promptTokens / round.prefill, peerName, (round) => (round.peerPrefill === null ? null : promptTokens / round.peerPrefill), 'fastest'))
  sequences.release()

  const many = createSequences(backend, config, weights, { count: manySequences, capacity: 64 })
  const together = await decodeMany(many, config, 20)
  show({ name: `${name} q4, ${manySequences} sequences`, value: 1 / together, unit: 'tokens/s', peer: 'one sequence', ratio: median(rounds.map((round) => round.decode)) / together, spread: [1 / together, 1 / together] })
  await peer?.close()
  await backend.close()
  rmSync(own, { recursive: true })
  rmSync(gguf, { force: true })
}

/** Runs all rows; `only` names one shape. A shape whose files do not fit the disk is said to be left out. */
export async function benchInference(show: Show, say: (text: string) => void, only?: string): Promise<void> {
  const parent = process.env.MOE_BENCH_FOLDER ?? tmpdir()
  mkdirSync(parent, { recursive: true })
  const folder = mkdtempSync(join(parent, 'moe-bench-'))
  if (process.env.MOE_LLAMA === undefined) say('llama.cpp is absent: MOE_LLAMA names no folder with node-llama-cpp')
  try {
    for (const shape of shapes) {
      if (only !== undefined && only !== shape.name) continue
      const { bavail, bsize } = statfsSync(folder)
      if (bavail * bsize < shape.needBytes) say(`${shape.name}: left out, its files need ${(shape.needBytes / 1e9).toFixed(1)} GB in ${parent}`)
      else await benchShape(shape, folder, show)
    }
  } finally {
    if (existsSync(folder)) rmSync(folder, { recursive: true })
  }
}
