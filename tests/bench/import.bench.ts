/**
 * A random GGUF file in 4 bits of the published shape (`import:227M` for a small one) through the product: `moe import`, then `moe generate`
 * with the imported checkpoint and with the file itself, whose greedy tokens must be the same. Time, and the largest resident memory of any of the processes (Linux).
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench } from './measure.ts'
import { writeRandomGguf } from './random-gguf.ts'
import { medium, olmoe7B } from './random-model.ts'

type Measured<T> = { json: T; seconds: number; peakBytes: number }
type Made = { ids: number[]; tokensPerSecond: number }

/** Peak resident bytes of a process and those it started, as far as they live. */
function peakOf(pid: number): number {
  try {
    const own = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
    const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number))
    return Math.max(own, ...children.map(peakOf))
  } catch {
    return 0
  }
}

function moe<T>(library: string, args: readonly string[]): Promise<Measured<T>> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const child = spawn(process.execPath, ['core/cli.ts', ...args, '--json', '--library', library], { stdio: ['ignore', 'pipe', 'ignore'] })
    let [printed, peakBytes] = ['', 0]
    const timer = setInterval(() => (peakBytes = Math.max(peakBytes, peakOf(child.pid!))), 100)
    child.stdout.on('data', (text: Buffer) => (printed += text.toString()))
    child.on('close', (code) => {
      clearInterval(timer)
      if (code === 0) resolve({ json: JSON.parse(printed) as T, seconds: (performance.now() - startedAt) / 1000, peakBytes })
      else reject(new Error(`moe ${args[0]}: ${printed}`))
    })
  })
}

export const bench: Bench = {
  title: 'import: a GGUF file in 4 bits into the library, and tokens from it',
  async run({ show, note, only }) {
    const folder = mkdtempSync(join(tmpdir(), 'moe-bench-'))
    const [file, library] = [join(folder, 'random.gguf'), join(folder, 'library')]
    const row = (name: string, value: number, unit: string): void => show({ group: 'imp', name, value, unit, spread: [value, value], peer: '', ratio: null })
    try {
      const { sizeBytes } = await writeRandomGguf(file, only === '227M' ? medium : olmoe7B)
      const imported = await moe<{ checkpointId: string }>(library, ['import', file])
      const generate = (model: string): Promise<Measured<Made>> => moe(library, ['generate', '--model', model, '--prompt-ids', '[1,2,3,4,5,6,7,8]', '--max', '24', '--temperature', '0'])
      const [own, direct] = [await generate(imported.json.checkpointId), await generate(file)]
      row(`moe import, ${(sizeBytes / 1e9).toFixed(2)} GB`, imported.seconds, 's')
      row('moe import, peak resident memory', imported.peakBytes / 1e9, 'GB')
      row('moe generate, 24 tokens, all of it', own.seconds, 's')
      row('moe generate, tokens', own.json.tokensPerSecond, 'per s')
      row('moe generate, peak resident memory (mapped pages too)', own.peakBytes / 1e9, 'GB')
      row('moe generate from the GGUF file itself, all of it', direct.seconds, 's')
      const isSame = own.json.ids.join() === direct.json.ids.join()
      note(isSame ? 'greedy tokens of both are the same' : `greedy tokens differ: ${own.json.ids.join()} and ${direct.json.ids.join()}`)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
}
