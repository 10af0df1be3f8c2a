/**
 * A peer in a process of its own, asked line by line: it says who it is on one line, then answers every line with one. It is halted
 * between two questions, so that threads of it that still spin for work take nothing from whatever is measured next.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export type PeerProcess = {
  /** What it said first. */
  readonly hello: string
  ask(line: string): Promise<string>
  close(): void
}

/** The running peer, or undefined where it cannot be started or ends before it says anything. */
export async function openPeerProcess(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<PeerProcess | undefined> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } })
  const end = (): void => void child.kill('SIGKILL')
  process.once('exit', end)
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => reject(new Error(`${command} ended with ${code ?? signal}`)))
  })
  ended.catch(() => undefined)
  const lines = createInterface({ input: child.stdout })
  const next = (): Promise<string> => Promise.race([new Promise<string>((resolve) => lines.once('line', resolve)), ended])
  const halt = (signal: 'SIGSTOP' | 'SIGCONT'): void => void (process.platform !== 'win32' && child.kill(signal))
  const hello = await next().catch(() => undefined)
  if (hello === undefined) {
    process.off('exit', end)
    return undefined
  }
  halt('SIGSTOP')
  return {
    hello,
    async ask(line) {
      halt('SIGCONT')
      const answer = next()
      child.stdin.write(`${line}\n`)
      const got = await answer
      halt('SIGSTOP')
      return got
    },
    close() {
      process.off('exit', end)
      end()
    },
  }
}
