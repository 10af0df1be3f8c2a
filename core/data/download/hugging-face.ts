/** A data set on a Hugging Face hub (or a mirror with the same addresses) as a list of downloads with the hashes that the hub knows. */
import { join, resolve, sep } from 'node:path'
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'
import type { Download } from './download.ts'

export const defaultHub = 'https://huggingface.co'

const treeSchema = z.array(z.looseObject({ type: z.string(), path: z.string(), size: z.number().optional(), lfs: z.looseObject({ oid: z.string() }).optional() }))

export type HubDataset = { repository: string; revision?: string; hub?: string; token?: string | null; /** Which files, by name; default: data files. */ include?: RegExp }

const dataFiles = /\.(parquet|jsonl|ndjson|json|csv|tsv|txt|md)(\.gz|\.zst)?$/i

const encode = (path: string): string => path.split('/').map(encodeURIComponent).join('/')

function refused(url: string, found: string): AppError {
  return new AppError('download.failed', `${url}: found ${found}, expected the files of a data set`, { params: { url, found, expected: 'the files of a data set' }, hint: 'Check the name (owner/name) and the revision; a gated or private data set needs a token.' })
}

/** Asks the hub for the files. Throws download.failed. */
export async function listHubDataset({ repository, revision = 'main', hub = defaultHub, token = null, include = dataFiles }: HubDataset, folder: string): Promise<(Download & { sizeBytes: number | null })[]> {
  const base = hub.replace(/\/+$/, '')
  const found: (Download & { sizeBytes: number | null })[] = []
  let next: string | null = `${base}/api/datasets/${encode(repository)}/tree/${encodeURIComponent(revision)}?recursive=true`
  while (next !== null) {
    const url: string = next
    let response: Response
    try {
      response = await fetch(url, { headers: token === null ? {} : { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(60_000) })
    } catch (error) {
      throw refused(url, (error as Error).message)
    }
    if (!response.ok) throw refused(url, `HTTP ${response.status}`)
    const tree = treeSchema.safeParse(await response.json().catch(() => null))
    if (!tree.success) throw refused(url, 'an answer of another kind')
    for (const { type, path, size, lfs } of tree.data) {
      if (type !== 'file' || !include.test(path)) continue
      const target = join(folder, path)
      // A name from a server must not lead out of the folder.
      if (!resolve(target).startsWith(resolve(folder) + sep)) throw refused(url, `the file name ${path}`)
      found.push({ url: `${base}/datasets/${encode(repository)}/resolve/${encodeURIComponent(revision)}/${encode(path)}`, path: target, sha256: lfs?.oid.replace(/^sha256:/, '') ?? null, sizeBytes: size ?? null })
    }
    const following = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1]
    next = following === undefined ? null : new URL(following, url).href
    // The token is for this hub: a next page anywhere else is not followed.
    if (next !== null && new URL(next).origin !== new URL(url).origin) throw refused(url, `a next page at ${new URL(next).origin}`)
  }
  if (found.length === 0) throw refused(next ?? `${base}/datasets/${repository}`, 'no data file')
  return found
}
