/** A data set or a model on a Hugging Face hub (or a mirror with the same addresses) as a list of downloads with the hashes that the hub knows. */
import { join, resolve, sep } from 'node:path'
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'
import type { Download } from './download.ts'

export const defaultHub = 'https://huggingface.co'

const treeSchema = z.array(z.looseObject({ type: z.string(), path: z.string(), size: z.number().optional(), lfs: z.looseObject({ oid: z.string() }).optional() }))

export type HubRepository = { kind?: keyof typeof kinds; repository: string; revision?: string; hub?: string; token?: string | null }
export type HubFile = Download & { sizeBytes: number | null }

/** What is fetched of each kind, by path, and where the hub keeps it. */
const kinds = {
  dataset: { what: 'a data set', api: 'datasets', at: 'datasets/', files: /\.(parquet|jsonl|ndjson|json|csv|tsv|txt|md)(\.gz|\.zst)?$/i },
  model: { what: 'a model', api: 'models', at: '', files: /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|model\.safetensors\.index)\.json$|^chat_template\.jinja$|^model[\w.-]*\.safetensors$/ },
} as const

const encode = (path: string): string => path.split('/').map(encodeURIComponent).join('/')

function refused(url: string, found: string, what: string): AppError {
  return new AppError('download.failed', `${url}: found ${found}, expected the files of ${what}`, { params: { url, found, expected: `the files of ${what}` }, hint: 'Check the name (owner/name) and the revision; a gated or private one needs a token.' })
}

/** Asks the hub for the files. Throws download.failed. */
export async function listHubFiles({ kind = 'dataset', repository, revision = 'main', hub = defaultHub, token = null }: HubRepository, folder: string): Promise<HubFile[]> {
  const { what, api, at, files: include } = kinds[kind]
  const base = hub.replace(/\/+$/, '')
  const found: HubFile[] = []
  let next: string | null = `${base}/api/${api}/${encode(repository)}/tree/${encodeURIComponent(revision)}?recursive=true`
  while (next !== null) {
    const url: string = next
    let response: Response
    try {
      response = await fetch(url, { headers: token === null ? {} : { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(60_000) })
    } catch (error) {
      throw refused(url, (error as Error).message, what)
    }
    if (!response.ok) throw refused(url, `HTTP ${response.status}`, what)
    const tree = treeSchema.safeParse(await response.json().catch(() => null))
    if (!tree.success) throw refused(url, 'an answer of another kind', what)
    for (const { type, path, size, lfs } of tree.data) {
      if (type !== 'file' || !include.test(path)) continue
      const target = join(folder, path)
      // A name from a server must not lead out of the folder.
      if (!resolve(target).startsWith(resolve(folder) + sep)) throw refused(url, `the file name ${path}`, what)
      found.push({ url: `${base}/${at}${encode(repository)}/resolve/${encodeURIComponent(revision)}/${encode(path)}`, path: target, sha256: lfs?.oid.replace(/^sha256:/, '') ?? null, sizeBytes: size ?? null })
    }
    const following = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1]
    next = following === undefined ? null : new URL(following, url).href
    // The token is for this hub: a next page anywhere else is not followed.
    if (next !== null && new URL(next).origin !== new URL(url).origin) throw refused(url, `a next page at ${new URL(next).origin}`, what)
  }
  if (found.length === 0) throw refused(next ?? `${base}/${at}${repository}`, 'none', what)
  return found
}
