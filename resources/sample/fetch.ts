/**
 * Makes the sample data: fetches the packages of manifest.json through the npm client (so whatever registry it is set to is used),
 * checks them against their sha512, and writes data/<domain>.jsonl and data/sample.json. Does nothing when the data is current.
 * Runs by itself too: node resources/sample/fetch.ts
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import type { Document } from '#core/data/documents.ts'
import { documentHash } from '#core/data/split.ts'
import { sampleSchema, type SampleIndex } from '#core/data/sample.ts'
import { AppError } from '#core/shared/errors.ts'
import { extractors } from './extract.ts'
import { readTarball, type PackedFile } from './tar.ts'

type DomainRecipe = {
  name: string
  title: string
  package: string
  version: string
  /** sha512 of the tarball, as npm writes it. */
  integrity: string
  licence: string
  what: string
  /** Pattern of the paths to take, below the package's folder. */
  take: string
  extractor: string
  capBytes: number
}

export type SampleResult = { folder: string; index: SampleIndex; downloadedBytes: number; wasCurrent: boolean }

const here = import.meta.dirname
const dataFolder = join(here, 'data')
const cacheFolder = join(here, 'cache')
const downloadTimeoutMs = 300_000

const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex')

/** What decides the data: the manifest and the code that extracts. */
function recipeHash(): string {
  return sha256(['manifest.json', 'extract.ts', 'tar.ts', 'zip.ts', 'fetch.ts'].map((name) => sha256(readFileSync(join(here, name)))).join('\n'))
}

/** The index of the data in place, when it is whole and made by this recipe. */
function currentIndex(recipe: string): SampleIndex | null {
  const path = join(dataFolder, 'sample.json')
  if (!existsSync(path)) return null
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return null
  }
  const index = sampleSchema.safeParse(value)
  if (!index.success || index.data.recipe !== recipe) return null
  const isWhole = index.data.domains.every(({ name, sha256: expected }) => {
    const file = join(dataFolder, `${name}.jsonl`)
    return existsSync(file) && sha256(readFileSync(file)) === expected
  })
  return isWhole ? index.data : null
}

async function npmPack(spec: string, folder: string): Promise<void> {
  const args = ['pack', spec, '--silent', '--ignore-scripts', '--pack-destination', folder]
  const cli = process.env.npm_execpath
  const options = { timeout: downloadTimeoutMs, cwd: folder }
  if (cli?.endsWith('npm-cli.js')) await promisify(execFile)(process.env.npm_node_execpath ?? process.execPath, [cli, ...args], options)
  else await promisify(execFile)('npm', args, { ...options, shell: process.platform === 'win32' })
}

/** The tarball of a package, from the cache or the registry, with the hash that the manifest expects. */
async function fetchTarball({ package: name, version, integrity }: DomainRecipe): Promise<{ bytes: Buffer; downloaded: boolean }> {
  const isRight = (bytes: Buffer): boolean => `sha512-${createHash('sha512').update(bytes).digest('base64')}` === integrity
  const cached = join(cacheFolder, `${name.replace('@', '').replace('/', '-')}-${version}.tgz`)
  if (existsSync(cached)) {
    const bytes = readFileSync(cached)
    if (isRight(bytes)) return { bytes, downloaded: false }
  }
  const spec = `${name}@${version}`
  const folder = join(cacheFolder, `fetch-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  try {
    await npmPack(spec, folder)
    const packed = readdirSync(folder).find((file) => file.endsWith('.tgz'))
    if (packed === undefined) throw new Error('npm pack left no tarball')
    const bytes = readFileSync(join(folder, packed))
    if (!isRight(bytes)) {
      throw new AppError('sample.integrity', `${spec} is not what it was: its sha512 differs from the manifest`, {
        params: { package: spec, expected: integrity },
        hint: 'The registry served another file. Check the npm registry that is set, and try again.',
      })
    }
    renameSync(join(folder, packed), cached)
    return { bytes, downloaded: true }
  } catch (error) {
    if (error instanceof AppError) throw error
    const reason = String((error as { stderr?: string }).stderr || (error as Error).message).trim().split('\n').slice(-3).join(' ')
    throw new AppError('sample.offline', `${spec} could not be fetched: ${reason}`, {
      params: { package: spec },
      hint: 'A connection to an npm registry is needed once. Try again with: node resources/sample/fetch.ts; what was fetched is kept.',
      cause: error,
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A package that npm has installed in this very version (and checked) need not be fetched. */
function installedFolder({ package: name, version }: DomainRecipe): string | null {
  const folder = join(here, '..', '..', 'node_modules', name)
  const manifest = join(folder, 'package.json')
  if (!existsSync(manifest)) return null
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version === version ? folder : null
}

function installedFiles(folder: string, pattern: RegExp): PackedFile[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = files.map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
  return paths.filter((path) => pattern.test(path)).map((path) => ({ path, bytes: readFileSync(join(folder, path)) }))
}

/** As many documents as fit the cap, drawn by hash so that they come from all over the source, in the order of their ids. */
function capDocuments(documents: Document[], capBytes: number): Document[] {
  const byHash = documents.map((document) => ({ document, hash: documentHash(document.id + document.text) }))
  byHash.sort((a, b) => (a.hash < b.hash ? -1 : 1))
  let bytes = 0
  const taken = byHash.filter(({ document }) => {
    const size = Buffer.byteLength(document.text)
    if (bytes + size > capBytes) return false
    bytes += size
    return true
  })
  const byId = new Intl.Collator('en', { numeric: true })
  return taken.map(({ document }) => document).sort((a, b) => byId.compare(a.id, b.id) || (a.id < b.id ? -1 : 1))
}

async function makeDomain(recipe: DomainRecipe, folder: string, log: (text: string) => void): Promise<{ index: SampleIndex['domains'][number]; downloadedBytes: number }> {
  const pattern = new RegExp(recipe.take)
  const installed = installedFolder(recipe)
  const source = `${recipe.package}@${recipe.version}`
  let downloadedBytes = 0
  let files: PackedFile[]
  if (installed) files = installedFiles(installed, pattern)
  else {
    const { bytes, downloaded } = await fetchTarball(recipe)
    if (downloaded) downloadedBytes = bytes.length
    files = [...readTarball(bytes, source)].filter(({ path }) => pattern.test(path))
  }
  const extract = extractors[recipe.extractor]
  if (!extract) throw new Error(`manifest.json: domain ${recipe.name}: no extractor "${recipe.extractor}"`)
  const documents = capDocuments(files.flatMap(extract), recipe.capBytes)
  const rows = documents.map(({ id, text }) => `${JSON.stringify({ id, text, source })}\n`).join('')
  writeFileSync(join(folder, `${recipe.name}.jsonl`), rows)
  const bytes = documents.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)
  log(`${recipe.title}: ${documents.length} documents, ${(bytes / 1e6).toFixed(1)} MB, from ${source}`)
  const { name, title, licence } = recipe
  return { index: { name, title, licence, source, documents: documents.length, bytes, sha256: sha256(rows) }, downloadedBytes }
}

/** Makes the sample data when it is missing or old. Throws AppError `sample.offline`, `sample.integrity` or `archive.damaged`. */
export async function ensureSample(log: (text: string) => void): Promise<SampleResult> {
  const recipe = recipeHash()
  const current = currentIndex(recipe)
  if (current) return { folder: dataFolder, index: current, downloadedBytes: 0, wasCurrent: true }
  const { domains } = JSON.parse(readFileSync(join(here, 'manifest.json'), 'utf8')) as { domains: DomainRecipe[] }
  const temporary = join(here, 'cache', `data-${process.pid}`)
  mkdirSync(temporary, { recursive: true })
  try {
    const made = []
    for (const domain of domains) made.push(await makeDomain(domain, temporary, log))
    const index: SampleIndex = { format: 'moe-workbench-sample', version: 1, recipe, domains: made.map((domain) => domain.index) }
    writeFileSync(join(temporary, 'sample.json'), `${JSON.stringify(index, null, 2)}\n`)
    rmSync(dataFolder, { recursive: true, force: true })
    renameSync(temporary, dataFolder)
    return { folder: dataFolder, index, downloadedBytes: made.reduce((sum, { downloadedBytes }) => sum + downloadedBytes, 0), wasCurrent: false }
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  const say = (text: string): void => void process.stderr.write(`${text}\n`)
  try {
    const { wasCurrent, index, downloadedBytes } = await ensureSample(say)
    const bytes = index.domains.reduce((sum, domain) => sum + domain.bytes, 0)
    say(wasCurrent ? 'The sample texts are current.' : `Done: ${(bytes / 1e6).toFixed(1)} MB of text, ${(downloadedBytes / 1e6).toFixed(1)} MB fetched.`)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    say(`${error.message}\n${error.hint}`)
    process.exitCode = 1
  }
}
