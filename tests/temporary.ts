/**
 * Runs once around the whole suite: gives it a temporary folder of its own, so that whatever its tests and the processes they start
 * leave behind goes with it, a test that fails or a process that is killed included. Only a killed test runner leaves the folder.
 */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** POSIX reads the first, Windows the others. */
const variables = ['TMPDIR', 'TEMP', 'TMP']
let folder: string | null = null

/** Once for all projects: they inherit the variables. */
export function setup(): void {
  if (process.env.MOE_TEST_TEMPORARY) return
  folder = mkdtempSync(join(realpathSync(tmpdir()), 'moe-tests-'))
  process.env.MOE_TEST_TEMPORARY = folder
  for (const name of variables) process.env[name] = folder
}

/** Removes the folder; a process that is about to end may still write into it. */
export function teardown(): void {
  if (folder !== null) rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
}
