/**
 * One core per library: a lock file that names the process that serves it. A lock whose process is gone is taken over;
 * nothing else is, so two cores never write one database or start two runners for one run.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import { isProcessAlive, processStart } from './process.ts'

type Holder = { pid: number; start: string | null }

/** Takes the lock of the library; gives the function that releases it. Throws library.busy, naming the process. */
export function lockLibrary(libraryPath: string): () => void {
  const path = join(libraryPath, 'library.lock')
  const own: Holder = { pid: process.pid, start: processStart(process.pid) }
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(path, JSON.stringify(own), { flag: 'wx' })
      return () => release(path, own)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const holder = readHolder(path)
    if (attempt === 3 || (holder !== null && isProcessAlive(holder.pid, holder.start))) throw busy(libraryPath, holder?.pid ?? 0)
    rmSync(path, { force: true })
  }
}

function release(path: string, own: Holder): void {
  const holder = readHolder(path)
  if (holder?.pid === own.pid && holder.start === own.start) rmSync(path, { force: true })
}

/** What the lock says; null when it is gone or half written by a core that died. */
function readHolder(path: string): Holder | null {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Holder
    return Number.isInteger(holder.pid) ? holder : null
  } catch {
    return null
  }
}

const busy = (libraryPath: string, pid: number): AppError =>
  new AppError('library.busy', `The library ${libraryPath} is in use by process ${pid}`, {
    params: { libraryPath, pid },
    hint: 'Use the workbench that is already open, or close it first; or give another library.',
  })
