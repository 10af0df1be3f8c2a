/**
 * Who may import whom. The table is the architecture: a folder imports what its row names and nothing else of the
 * project's own code. Outside modules are held only where purity depends on them. Tests may import everything.
 */
import { expect, test } from 'vitest'
import { importsOf, readSources, type Import } from './sources.ts'

type Row = {
  /** The files the row is about: a path or a folder ending in `/`; the first row that fits a file counts. */
  of: string
  /** The project's own files that may be imported, besides those of the same row. */
  own: string[]
  /** Modules from outside; absent: any. */
  outside?: RegExp
}

const pureModules = /^(zod|@orpc\/contract)$/
const none = /^$/
/** The pure half of core/backend: the interface, its recorder, its planner and the layout of packed weights. Which backend runs a plan is the entries' choice. */
const backendSeam = ['core/backend/backend.ts', 'core/backend/record.ts', 'core/backend/planner.ts', 'core/backend/packed.ts']

const table: Row[] = [
  { of: 'core/shared/', own: [], outside: pureModules },
  { of: 'core/model/', own: ['core/shared/', ...backendSeam], outside: none },
  { of: 'core/backend/cpu', own: ['core/shared/', 'core/backend/', 'native/'] },
  { of: 'core/backend/webgpu/', own: ['core/shared/', 'core/backend/', 'native/'] },
  { of: 'core/backend/', own: ['core/shared/'], outside: none },
  { of: 'core/data/', own: ['core/shared/'] },
  { of: 'core/formats/', own: ['core/shared/'] },
  { of: 'core/store/', own: ['core/shared/'] },
  { of: 'core/ray/', own: ['core/shared/'] },
  ...['train', 'evaluate', 'analyze'].map((folder) => ({
    of: `core/${folder}/`,
    own: ['core/shared/', 'core/model/', 'core/data/', 'core/formats/', ...backendSeam],
  })),
  { of: 'core/features/', own: ['core/shared/', 'core/store/', 'core/data/', 'core/formats/', 'core/ray/'] },
  // The entries (main, serve, runner, cli) wire everything.
  { of: 'core/', own: ['core/', 'native/'] },
  // The shell starts the core with the host of every Node process, and serves the page's files as `moe serve` does.
  { of: 'electron/', own: ['core/main.ts', 'core/node-host.ts', 'core/serve/files.ts', 'core/shared/'] },
  { of: 'renderer/vite.config.ts', own: [] },
  { of: 'renderer/', own: ['core/shared/'], outside: /^(?!node:|electron$)/ },
  { of: 'native/', own: ['core/shared/errors.ts'] },
  { of: 'resources/scripts/', own: ['core/cli.ts', 'resources/sample/'], outside: /^node:/ },
  { of: 'resources/', own: ['core/shared/', 'core/data/'] },
]

const rowOf = (path: string): Row | undefined => table.find((row) => path.startsWith(row.of))

const isOwn = (target: string): boolean => /^(core|electron|native|renderer|resources|tests)\//.test(target)

function isAllowed(found: Import): boolean {
  const row = rowOf(found.path)
  if (row === undefined) return false
  if (!isOwn(found.target)) return row.outside === undefined || row.outside.test(found.target)
  return rowOf(found.target) === row || row.own.some((allowed) => found.target.startsWith(allowed))
}

const sources = readSources()
const scripts = sources.filter(({ path }) => /\.(ts|mjs|vue)$/.test(path) && !path.startsWith('tests/'))
const say = (found: Import): string => `${found.path}:${found.line} imports ${found.specifier}`

test('every folder imports only what its row of the table names', () => {
  const forbidden = scripts.flatMap(importsOf).filter((found) => !isAllowed(found))
  expect(forbidden.map(say)).toEqual([])
})

test('the table itself forbids: a breach of each kind is seen', () => {
  const breach = (path: string, text: string): boolean => importsOf({ path, lines: [text] }).some((found) => !isAllowed(found))
  expect(breach('core/shared/runs.ts', "import { readFile } from 'node:fs/promises'")).toBe(true)
  expect(breach('core/shared/runs.ts', "import { z } from 'zod'")).toBe(false)
  expect(breach('core/features/runs/handlers.ts', "import { step } from '#core/train/loop.ts'")).toBe(true)
  expect(breach('core/features/runs/handlers.ts', "import { step } from '../../train/loop.ts'")).toBe(true)
  expect(breach('core/train/loop.ts', "import { cpu } from '#core/backend/cpu.ts'")).toBe(true)
  expect(breach('core/train/loop.ts', "import type { Backend } from '#core/backend/backend.ts'")).toBe(false)
  expect(breach('renderer/main.ts', "const core = await import('#core/main.ts')")).toBe(true)
  expect(breach('electron/main.ts', "import { open } from '#core/store/open.ts'")).toBe(true)
})

test('relative imports never climb more than one folder', () => {
  const climbing = sources.flatMap(importsOf).filter(({ specifier }) => specifier.startsWith('../../'))
  expect(climbing.map(say)).toEqual([])
})

test('only the glue of the addon includes N-API; the kernels include the standard library and each other', () => {
  const kernels = sources.filter(({ path }) => path.startsWith('native/') && /\.(cpp|cc|h|hpp)$/.test(path))
  const glue = kernels.flatMap(importsOf).filter(({ specifier }) => /napi|node_api|^uv\.h|^v8/.test(specifier))
  expect(new Set(glue.map(({ path }) => path)).size).toBeLessThanOrEqual(1)
})
