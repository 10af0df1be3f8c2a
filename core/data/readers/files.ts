/**
 * From paths, folders and globs to the files of a source, in one order on every machine (by name, code unit by code unit). A folder or
 * glob leaves out hidden files, empty ones and kinds that nobody reads, and says so; a file that was named outright is never left out.
 */
import { existsSync, globSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { SourceFormat } from '#core/shared/sources.ts'

export type Compression = 'none' | 'gzip' | 'zstd'
export type SourceFile = {
  path: string
  /** The name in document ids and errors: from the base folder, with forward slashes. */
  name: string
  format: SourceFormat
  compression: Compression
  sizeBytes: number
  modifiedMs: number
  /** Hears how many of `sizeBytes` have been read so far. */
  onRead?: (bytes: number) => void
}
export type FoundFiles = { files: SourceFile[]; leftOut: { file: string; reason: string }[] }

const codeExtensions =
  'py pyi js mjs cjs ts mts cts tsx jsx c h cc cpp cxx hpp hh cs java kt kts scala go rs rb php swift m mm sh bash zsh pl pm lua r jl hs ml mli ex exs erl clj lisp el scm sql sol vue svelte css scss less html htm xml yaml yml toml ini cmake make mk gradle proto f f90 f95 pas ada asm s v sv vhd tex wgsl glsl cu'
const formatOf = new Map<string, SourceFormat>([
  ...['txt', 'md', 'markdown', 'mdx', 'rst', 'text', 'org', 'adoc'].map((ext): [string, SourceFormat] => [ext, 'text']),
  ...codeExtensions.split(' ').map((ext): [string, SourceFormat] => [ext, 'code']),
  ['jsonl', 'jsonl'], ['ndjson', 'jsonl'], ['json', 'json'], ['csv', 'csv'], ['tsv', 'csv'], ['parquet', 'parquet'],
])

/** Format and compression by a file's name; the format is null when the name tells none. */
export function kindOf(name: string): { format: SourceFormat | null; compression: Compression } {
  let stem = basename(name).toLowerCase()
  const compression: Compression = /\.(gz|gzip)$/.test(stem) ? 'gzip' : /\.zst$/.test(stem) ? 'zstd' : 'none'
  if (compression !== 'none') stem = stem.slice(0, stem.lastIndexOf('.'))
  const extension = /\.([^.]+)$/.exec(stem)?.[1]
  return { format: formatOf.get(extension ?? '') ?? null, compression }
}

/** Text that the files hold, about: packed ones are taken to unpack to four times their size. */
export const expectedTextBytes = (files: readonly SourceFile[]): number => files.reduce((sum, { sizeBytes, compression, format }) => sum + sizeBytes * (compression === 'none' && format !== 'parquet' ? 1 : 4), 0)

const isGlob = (path: string): boolean => /[*?[\]{}]/.test(path)

function listFolder(folder: string): string[] {
  const found: string[] = []
  const walk = (at: string): void => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (entry.name.startsWith('.') || entry.name === 'node_modules') continue
      const path = join(at, entry.name)
      // Links are followed to files only: a link to a folder can lead in a circle.
      if (entry.isDirectory()) walk(path)
      else if (entry.isFile() || (entry.isSymbolicLink() && statSync(path, { throwIfNoEntry: false })?.isFile())) found.push(path)
    }
  }
  walk(folder)
  return found
}

function notFound(path: string): AppError {
  return new AppError('source.notFound', `${path}: found nothing there, expected a file, a folder or a pattern that fits files`, {
    params: { file: path, found: 'nothing', expected: 'a file, a folder or a pattern that fits files' },
    hint: 'Check the path; relative ones start at the folder of the file that names them.',
  })
}

/** The folder that names in a source of absolute paths start at: the folder that is the source, else the one that holds all its paths. Then names stay when it is moved as a whole. */
export function baseOf(paths: readonly string[]): string {
  const [first] = paths
  if (paths.length === 1 && statSync(first!, { throwIfNoEntry: false })?.isDirectory()) return first!
  const plain = paths.map((path) => dirname(isGlob(path) && !existsSync(path) ? path.slice(0, path.search(/[*?[\]{}]/)) + 'x' : path).split(sep))
  const common = plain[0]!.filter((_, i) => plain.every((parts) => parts.slice(0, i + 1).join(sep) === plain[0]!.slice(0, i + 1).join(sep)))
  return common.join(sep) || sep
}

/** Finds the files of `paths`, relative ones from `base`. `format` overrides what names tell. Throws source.notFound, source.unknownFormat, source.empty. */
export function findFiles(paths: readonly string[], base: string, format: SourceFormat | null = null): FoundFiles {
  const files = new Map<string, SourceFile>()
  const leftOut: FoundFiles['leftOut'] = []
  const take = (path: string, named: boolean): void => {
    const found = statSync(path, { throwIfNoEntry: false })
    if (!found?.isFile()) return
    const inBase = relative(base, path)
    const name = (inBase.startsWith('..') || isAbsolute(inBase) ? path : inBase).split(sep).join('/')
    const kind = kindOf(path)
    const chosen = format ?? kind.format
    if (chosen === null || (found.size === 0 && !named)) {
      const reason = chosen === null ? 'unknown kind of file' : 'empty'
      if (!named) return void leftOut.push({ file: name, reason })
      throw new AppError('source.unknownFormat', `${name}: found a file name that tells no format, expected .txt, .md, source code, .jsonl, .json, .csv or .parquet, plain, .gz or .zst`, {
        params: { file: name, found: basename(path), expected: '.txt .md .jsonl .json .csv .parquet' },
        hint: 'Rename the file, or give the format of the source.',
      })
    }
    files.set(path, { path, name, format: chosen, compression: kind.compression, sizeBytes: found.size, modifiedMs: found.mtimeMs })
  }
  for (const given of paths) {
    const path = resolve(base, given)
    const found = statSync(path, { throwIfNoEntry: false })
    if (found?.isFile()) take(path, true)
    else if (found?.isDirectory()) listFolder(path).forEach((file) => take(file, false))
    else if (isGlob(given)) {
      const matches = globSync(given, { cwd: base })
      if (matches.length === 0) throw notFound(given)
      matches.forEach((match) => take(resolve(base, match), false))
    } else throw notFound(given)
  }
  if (files.size === 0) {
    throw new AppError('source.empty', `${paths.join(', ')}: found no file that can be read, expected at least one`, {
      params: { file: paths.join(', '), found: `${leftOut.length} files left out`, expected: 'at least one file' },
      hint: 'Readable are .txt, .md, source code, .jsonl, .json, .csv and .parquet, plain, .gz or .zst.',
    })
  }
  const sorted = [...files.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  return { files: sorted, leftOut }
}
