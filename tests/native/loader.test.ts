/** The loader in a checkout without a built addon, and with one that is no addon. */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const folder = mkdtempSync(join(tmpdir(), 'moe-loader-'))
const script = `
  import { loadNative } from '#native/index.ts'
  try { process.stdout.write(JSON.stringify(loadNative().instructionSets())) }
  catch ({ name, code, message, hint }) { process.stdout.write(JSON.stringify({ name, code, message, hint })) }`

beforeAll(() => {
  for (const file of ['native/index.ts', 'core/shared/errors.ts']) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    cpSync(join(root, file), join(folder, file))
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', imports: { '#core/*': './core/*', '#native/*': './native/*' } }))
})

afterAll(() => rmSync(folder, { recursive: true }))

/** What loadNative gives or throws in the copied checkout, in a process of its own. */
function load(): unknown {
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: folder, encoding: 'utf8' })
  expect(stderr).toBe('')
  return JSON.parse(stdout)
}

test('no addon is native.missing, with the way to build it', () => {
  const error = { name: 'AppError', code: 'native.missing', message: expect.stringContaining('moe.node'), hint: expect.stringContaining('npm start') }
  expect(load()).toMatchObject(error)
})

test('a file that is no addon is native.broken; the real one loads', () => {
  const file = join(folder, 'native/build/Release/moe.node')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, 'not a library')
  expect(load()).toMatchObject({ name: 'AppError', code: 'native.broken', message: expect.stringContaining(file) })
  cpSync(join(root, 'native/build/Release/moe.node'), file)
  expect(load()).toContain('portable')
})
