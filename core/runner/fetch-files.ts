/** Downloads a list of files with one bar over all of them; what is there already in its size is not asked for again. */
import { existsSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { downloadFile } from '#core/data/download/download.ts'
import type { HubFile } from '#core/data/download/hugging-face.ts'
import type { BuildProgress } from '#core/data/build/tokenize.ts'
import type { JobContext } from './context.ts'

const isThere = ({ path, sizeBytes }: HubFile): boolean => existsSync(path) && (sizeBytes === null || statSync(path).size === sizeBytes)

export async function fetchFiles(wanted: readonly HubFile[], { token, signal, phase, log }: { token: string | null; signal: AbortSignal; phase: BuildProgress; log: JobContext['log'] }): Promise<void> {
  const total = wanted.every(({ sizeBytes }) => sizeBytes !== null) ? wanted.reduce((sum, { sizeBytes }) => sum + sizeBytes!, 0) : null
  let done = 0
  for (const file of wanted) {
    signal.throwIfAborted()
    const onProgress = (bytes: number, own: number | null): void => phase('download', done + bytes, total ?? (wanted.length === 1 ? own : null), 'bytes')
    if (!isThere(file)) {
      const got = await downloadFile(file, { token, signal, onProgress })
      log('info', `${basename(got.path)}: ${got.sizeBytes} bytes in ${got.requests} requests, sha256 ${got.sha256}`)
    }
    done += statSync(file.path).size
    phase('download', done, total, 'bytes')
  }
}
