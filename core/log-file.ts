/** The log of a host: one line per event, appended to a file that is started anew (the last one kept) when it gets large. Never user data. */
import { appendFileSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Host } from './shared/host.ts'

const largestBytes = 4 << 20

/** A `Host.log` that writes to `path`. A log that cannot be written is no reason to stop: the line goes to stderr. */
export function openLogFile(path: string): Host['log'] {
  return (level, text) => {
    const line = `${new Date().toISOString()} ${level} ${text}\n`
    try {
      mkdirSync(dirname(path), { recursive: true })
      const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0
      if (size > largestBytes) renameSync(path, `${path}.1`)
      appendFileSync(path, line)
    } catch {
      process.stderr.write(line)
    }
  }
}
