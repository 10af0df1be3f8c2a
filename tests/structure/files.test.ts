/**
 * What every source file owes its reader: a header, a bounded length, a name that says what is in it; and what the lock
 * owes everyone who installs from it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readSources, root, type Source } from './sources.ts'

const longestAllowed = 400

/** Files that may be longer, each with the reason. */
const longFiles: Record<string, string> = {
  'native/cpu/addon.cpp': 'the one file that may know Node-API',
}

const sources = readSources()
const paths = (found: Source[]): string[] => found.map(({ path }) => path)

test('every file begins with a header comment that says what it owns', () => {
  // A component begins with its script, whose first line counts.
  const isOpening = (line: string): boolean => line.trim() === '' || line.startsWith('#!') || /^<script\b[^>]*>$/.test(line)
  const firstLine = (source: Source): string => source.lines.find((line) => !isOpening(line)) ?? ''
  const header = /^(\/\*\*?|\/\/|<!--)/
  // The implementation of a C++ header is introduced by that header.
  const isIntroduced = ({ path }: Source): boolean => path.endsWith('.cpp') && sources.some((other) => other.path === path.replace(/cpp$/, 'h'))
  expect(paths(sources.filter((source) => !header.test(firstLine(source)) && !isIntroduced(source)))).toEqual([])
})

test(`no file is longer than ${longestAllowed} lines without a reason`, () => {
  const long = sources.filter(({ path, lines }) => lines.length > longestAllowed && !(path in longFiles))
  expect(long.map(({ path, lines }) => `${path}: ${lines.length} lines`)).toEqual([])
})

test('every exception for length is still needed', () => {
  const isLong = (path: string): boolean => sources.some((source) => source.path === path && source.lines.length > longestAllowed)
  expect(Object.keys(longFiles).filter((path) => !isLong(path))).toEqual([])
})

test('no barrel files: a file of re-exports hides where a name lives', () => {
  const isBarrel = ({ path, lines }: Source): boolean => {
    if (!/\.(ts|mjs)$/.test(path)) return false
    const code = lines.filter((line) => !/^\s*(\/\/|\/?\*|$)/.test(line))
    const reexports = code.filter((line) => /^\s*export\s+(type\s+)?(\*|\{[^}]*\})\s*(as \w+\s*)?from\b/.test(line))
    return reexports.length > 0 && reexports.length === code.length
  }
  expect(paths(sources.filter(isBarrel))).toEqual([])
})

test('no file is named for being a drawer', () => {
  const drawer = /(^|\/)(utils?|helpers?|misc|common-utils)\.(ts|mjs|h|hpp|cpp)$/
  expect(paths(sources.filter(({ path }) => drawer.test(path)))).toEqual([])
})

test('the lock names no place to fetch from, so that it works with any registry', () => {
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8').split('\n')
  expect(lock.filter((line) => line.includes('"resolved"'))).toEqual([])
})

test('every version in package.json is exact, and every script exists', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, Record<string, string | Record<string, string>>>
  const groups = ['dependencies', 'devDependencies', 'optionalDependencies', 'overrides']
  // An override may be of one package's own dependencies, and another package under its name.
  const versions = groups.flatMap((group) => Object.entries(manifest[group] ?? {}).flatMap(([name, version]): [string, string][] => (typeof version === 'string' ? [[name, version]] : Object.entries(version))))
  expect(versions.filter(([, version]) => !/^(npm:[\w-]+@)?\d+\.\d+\.\d+$/.test(version))).toEqual([])
  const files = Object.values(manifest['scripts'] ?? {}).map((command) => String(command).replace(/^node /, ''))
  expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([])
})
