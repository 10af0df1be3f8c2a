/** oneDNN as a peer: a small C++ program compiled where the library is installed (Debian: libdnnl-dev), one process for the whole run. */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { openPeerProcess } from './peer-process.ts'

export type OneDnn = {
  readonly version: string
  /** Seconds per run of a command of onednn.cpp. */
  ask(command: string): Promise<number>
  close(): void
}

/** The running peer, or undefined where there is no compiler or no library. */
export async function openOneDnn(threads: number): Promise<OneDnn | undefined> {
  const folder = join(import.meta.dirname, '../.output')
  const program = join(folder, 'onednn')
  mkdirSync(folder, { recursive: true })
  const built = spawnSync('g++', ['-O2', '-std=c++17', '-fopenmp', join(import.meta.dirname, 'onednn.cpp'), '-o', program, '-ldnnl'], { encoding: 'utf8' })
  if (built.status !== 0) return undefined
  const peer = await openPeerProcess(program, [], { OMP_NUM_THREADS: String(threads) })
  return peer && { version: peer.hello, ask: async (command) => Number(await peer.ask(command)), close: peer.close }
}
