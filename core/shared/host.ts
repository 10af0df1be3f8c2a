/**
 * What differs between the desktop, the server, the command line and the tests, as one interface of plain functions.
 * The core takes one of these and nothing else from its surroundings.
 */
import type { FromRunner, ToRunner } from './jobs.ts'
import type { About } from './system.ts'

/** A runner process as the core sees it. */
export type RunnerHandle = {
  readonly pid: number
  send(message: ToRunner): void
  onMessage(listener: (message: FromRunner) => void): void
  /** Lines it wrote to stderr: kept for the log when it dies. */
  onStderr(listener: (line: string) => void): void
  /** Called once, with the exit code or the signal's name. */
  onExit(listener: (how: number | string) => void): void
  /** Ends it at once (SIGKILL or the platform's equal). */
  kill(): void
}

export type Host = {
  readonly kind: About['host']
  readonly version: string
  /** The library folder; the core makes it when missing. */
  readonly libraryPath: string
  /** Presets, sample data and other read-only files. */
  readonly resourcesPath: string
  now(): number
  /** A new id (see idSchema). */
  newId(): string
  /** One line to the host's log; never user data. */
  log(level: 'info' | 'warning' | 'error', text: string): void
  startRunner(): RunnerHandle
}
