/**
 * Whether a process of an earlier core still lives. A pid alone does not tell, since it may have been given to another
 * process: where the system says when a process began (Linux), both must agree. A zombie counts as gone.
 */
import { readFileSync } from 'node:fs'

/** The system's own start time of a process, or null where it does not tell or there is no such process. */
export function processStart(pid: number): string | null {
  return readProcess(pid)?.start ?? null
}

/** Whether process `pid` lives and is the one that began at `start` (null: its beginning is not known). */
export function isProcessAlive(pid: number, start: string | null): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    // ESRCH: none. EPERM: another user's, which is none of ours.
    return false
  }
  const found = readProcess(pid)
  if (found === null) return true
  return found.state !== 'Z' && found.state !== 'X' && (start === null || found.start === start)
}

/** State and start time from Linux' /proc (fields 3 and 22; the name before them may hold any character). */
function readProcess(pid: number): { state: string; start: string } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state: fields[0]!, start: fields[19]! }
  } catch {
    return null
  }
}
