/**
 * Set-up remembers what it has done and does not do it twice, nor two of it at once. The scripts work on the checkout they
 * lie in, so each test gives them a small one of their own.
 */
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

const run = promisify(execFile)
const scripts = join(import.meta.dirname, '../../resources/scripts')
let checkout = ''

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'moe-setup-'))
  cpSync(scripts, join(checkout, 'resources/scripts'), { recursive: true })
  mkdirSync(join(checkout, 'core/data'), { recursive: true })
  writeFileSync(join(checkout, 'core/data/a.ts'), 'one')
})

afterEach(() => rmSync(checkout, { recursive: true, force: true }))

/** What `body` prints; it sees the exports of stamp.mjs. */
async function inCheckout(body: string): Promise<string> {
  const script = `import { setupFolder, stampOf, underLock } from './resources/scripts/stamp.mjs'; const say = (text) => process.stdout.write(String(text) + '\\n'); ${body}`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: checkout })
  return stdout.trim()
}

const isCurrent = (salt = ''): Promise<string> => inCheckout(`say(stampOf('native', ['core'], '${salt}').isCurrent())`)
const stamp = (): Promise<string> => inCheckout(`stampOf('native', ['core']).take().set()`)

describe('a stamp', () => {
  test('is current until a file changes, appears or goes', async () => {
    expect(await isCurrent()).toBe('false')
    await stamp()
    expect(await isCurrent()).toBe('true')
    writeFileSync(join(checkout, 'core/data/a.ts'), 'two')
    expect(await isCurrent()).toBe('false')
    await stamp()
    writeFileSync(join(checkout, 'core/b.ts'), '')
    expect(await isCurrent()).toBe('false')
    rmSync(join(checkout, 'core/b.ts'))
    expect(await isCurrent()).toBe('true')
  })

  test('holds for the same contents with other times, as after a checkout', async () => {
    await stamp()
    utimesSync(join(checkout, 'core/data/a.ts'), 1, 1)
    expect(await isCurrent()).toBe('true')
  })

  test('does not hold for another platform', async () => {
    await stamp()
    expect(await isCurrent('win32 arm64')).toBe('false')
  })

  test('is stale when a file was edited while the step ran', async () => {
    await inCheckout(`
      const inputs = stampOf('native', ['core']).take()
      const { writeFileSync } = await import('node:fs')
      writeFileSync('core/data/a.ts', 'edited meanwhile')
      inputs.set()`)
    expect(await isCurrent()).toBe('false')
  })
})

describe('the lock', () => {
  const step = `await underLock(async () => { const { appendFileSync } = await import('node:fs')
    appendFileSync('log', 'in\\n'); await new Promise((done) => setTimeout(done, 60)); appendFileSync('log', 'out\\n') })`

  test('lets one command in at a time', async () => {
    await Promise.all([1, 2, 3, 4].map(() => inCheckout(step)))
    expect(readFileSync(join(checkout, 'log'), 'utf8')).toBe('in\nout\n'.repeat(4))
  })

  test('of a command that was killed keeps nobody out', async () => {
    const killed = inCheckout(`await underLock(() => { process.kill(process.pid, 'SIGKILL'); return new Promise(() => {}) })`)
    await expect(killed).rejects.toThrow()
    await inCheckout(step)
    expect(readFileSync(join(checkout, 'log'), 'utf8')).toBe('in\nout\n')
  })

  test('is released when the step fails', async () => {
    const answer = await inCheckout(`await underLock(async () => { throw new Error('no compiler') }).catch((error) => say(error.message)); await underLock(async () => say('in again'))`)
    expect(answer).toBe('no compiler\nin again')
  })
})
