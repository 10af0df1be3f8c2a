/** Where the script of a worker thread is: beside its starter as source, in one folder with the entries when bundled. */
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** `source` is relative to core/data, without its ending; its last part names the bundled entry. */
export function workerPath(source: string): string {
  const own = fileURLToPath(import.meta.url)
  if (own.endsWith('.ts')) return join(dirname(own), `${source}.ts`)
  const folder = basename(dirname(own)) === 'chunks' ? dirname(dirname(own)) : dirname(own)
  return join(folder, `${basename(source)}.js`)
}
