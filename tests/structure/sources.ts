/**
 * What the structure tests look at: the project's own source files, and the imports in them. Reads text, not types: an
 * import is what stands in an import or export statement, an import() call or a C++ include.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, resolve } from 'node:path'

export const root = resolve(import.meta.dirname, '../..')

const sourceFolders = ['core', 'electron', 'native', 'renderer', 'resources', 'tests']
const ignored = ['native/build', 'resources/sample/data', 'resources/sample/cache', 'tests/.output', 'tests/fixtures']
const sourceFile = /\.(ts|mjs|vue|cpp|cc|h|hpp|wgsl)$/

/** A source file: its path from the root with forward slashes, and its lines. */
export type Source = { path: string; lines: string[] }

/** One import of one file. `target` is a path from the root for the project's own files, else the module's name. */
export type Import = { path: string; line: number; specifier: string; target: string }

function listFiles(folder: string): string[] {
  if (ignored.includes(folder)) return []
  const entries = readdirSync(join(root, folder), { withFileTypes: true })
  return entries.flatMap((entry) => {
    const path = posix.join(folder, entry.name)
    return entry.isDirectory() ? listFiles(path) : [path]
  })
}

/** Every source file of the project, in the order of the folders. */
export function readSources(): Source[] {
  const present = new Set(readdirSync(root))
  return sourceFolders
    .filter((folder) => present.has(folder))
    .flatMap(listFiles)
    .filter((path) => sourceFile.test(path))
    .map((path) => ({ path, lines: readFileSync(join(root, path), 'utf8').split('\n') }))
}

const fromClause = /^\s*(?:import|export|\}).*\bfrom\s*['"]([^'"]+)['"]/
const bareImport = /^\s*import\s*['"]([^'"]+)['"]/
const importCall = /\bimport\(\s*['"]([^'"]+)['"]/
const include = /^\s*#\s*include\s*[<"]([^>"]+)[>"]/

/** The imports of a source file, with `#…` and relative specifiers resolved to paths from the root. */
export function importsOf(source: Source): Import[] {
  const isCpp = /\.(cpp|cc|h|hpp)$/.test(source.path)
  const patterns = isCpp ? [include] : [fromClause, bareImport, importCall]
  return source.lines.flatMap((text, index) => {
    const specifier = patterns.map((pattern) => pattern.exec(text)?.[1]).find((found) => found !== undefined)
    return specifier === undefined ? [] : [{ path: source.path, line: index + 1, specifier, target: resolveSpecifier(source.path, specifier) }]
  })
}

function resolveSpecifier(path: string, specifier: string): string {
  if (specifier.startsWith('#')) return specifier.slice(1)
  if (specifier.startsWith('.')) return posix.join(dirname(path), specifier)
  return specifier
}
