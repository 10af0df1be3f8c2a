/** What a job sees of the process it runs in. */
import type { FromRunner, ToRunner } from '#core/shared/jobs.ts'

export type JobContext = {
  send(message: FromRunner): void
  log(level: 'info' | 'warning' | 'error', text: string): void
  /** Set by a stop message or a lost core; `save` may still become `discard`. */
  stopRequest(): 'none' | 'save' | 'discard'
  /** Later messages (generate, cancel, stop). */
  onMessage(listener: (message: ToRunner) => void): void
}
