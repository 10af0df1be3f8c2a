/**
 * Makes the store agree with the mixes on disk: complete ones that it does not know are adopted, those whose files are gone
 * are no longer offered. Files are only read. (A runner reads a mix against its hashes before it trains on it.)
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { mixRow, readMixManifest, verifyMix } from '#core/data/mix-manifest.ts'
import { AppError } from '#core/shared/errors.ts'
import { deleteMix, listMixes, recordMix } from '#core/store/mixes.ts'
import { listFolders } from '../checkpoints/files.ts'
import type { Services } from '../services.ts'

export async function reconcileMixes({ host, store }: Pick<Services, 'host' | 'store'>): Promise<void> {
  const mixes = join(host.libraryPath, 'mixes')
  const known = new Set(listMixes(store).map(({ id }) => id))
  for (const id of known) {
    const problem = await problemOf(() => readMixManifest(join(mixes, id)))
    if (problem === null) continue
    host.log('warning', `mix ${id} cannot be used any more: ${problem}`)
    deleteMix(store, id)
  }
  for (const id of listFolders(mixes)) {
    if (known.has(id)) continue
    const folder = join(mixes, id)
    const problem = await problemOf(async () => recordMix(store, mixRow(await verifyMix(folder), stemOf(id), statSync(folder).mtimeMs)))
    if (problem !== null) host.log('warning', `mix ${id} is not used: ${problem}`)
  }
}

/** A mix's id is its name and a hash. */
const stemOf = (id: string): string => id.replace(/-[0-9a-f]{12}$/, '')

async function problemOf(work: () => unknown): Promise<string | null> {
  try {
    await work()
    return null
  } catch (error) {
    if (error instanceof AppError) return error.message
    throw error
  }
}
