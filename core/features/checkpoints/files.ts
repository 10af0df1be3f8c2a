/**
 * The files of checkpoints: reading what a folder says of itself, holding it against its hashes, and removing it so that
 * a crash in between leaves no half checkpoint (renamed first, then deleted). Runners write these folders, the core never.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, readdirSync, renameSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256File, temporaryPrefix } from '#core/formats/atomic.ts'
import { manifestSchema, trainingStateSchema, type CheckpointManifest, type TrainingState } from '#core/shared/checkpoints.ts'
import { idSchema } from '#core/shared/common.ts'
import { AppError } from '#core/shared/errors.ts'

const trashPrefix = '.trash-'
const plainFileName = /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/

/** The manifest of a checkpoint folder, or why there is none to be trusted. */
export function readManifest(folder: string, id: string): CheckpointManifest | { problem: string } {
  const json = readJsonFile(join(folder, 'manifest.json'))
  if ('problem' in json) return json
  const manifest = manifestSchema.safeParse(json.value)
  if (!manifest.success) return { problem: `manifest.json: ${manifest.error.issues[0]?.path.join('.')} ${manifest.error.issues[0]?.message}` }
  if (manifest.data.id !== id) return { problem: `manifest.json names checkpoint ${manifest.data.id}` }
  const stray = Object.keys(manifest.data.files).find((name) => !plainFileName.test(name))
  return stray === undefined ? manifest.data : { problem: `manifest.json names ${stray}, which is no file of its folder` }
}

/** The training state of a checkpoint. Throws checkpoints.damaged naming the field. */
export function readTrainingState(folder: string, id: string): TrainingState {
  const json = readJsonFile(join(folder, 'state.json'))
  if ('problem' in json) throw damaged(id, json.problem)
  const state = trainingStateSchema.safeParse(json.value)
  if (!state.success) throw damaged(id, `state.json: ${state.error.issues[0]?.path.join('.')} ${state.error.issues[0]?.message}`)
  return state.data
}

/** Compares names and sizes only: what can be afforded for every checkpoint at every start. Null when they agree. */
export function findMissing(folder: string, manifest: CheckpointManifest): string | null {
  for (const [name, file] of Object.entries(manifest.files)) {
    const found = statSync(join(folder, name), { throwIfNoEntry: false })
    if (found === undefined) return `${name} is missing`
    if (found.size !== file.sizeBytes) return `${name} has ${found.size} bytes, expected ${file.sizeBytes}`
  }
  return null
}

/** Reads every file against its hash. Null when all agree, else the first difference. */
export async function findDamage(folder: string, manifest: CheckpointManifest): Promise<string | null> {
  const missing = findMissing(folder, manifest)
  if (missing !== null) return missing
  for (const [name, file] of Object.entries(manifest.files)) {
    const found = await sha256File(join(folder, name))
    if (found !== file.sha256) return `${name} has sha256 ${found}, expected ${file.sha256}`
  }
  return null
}

/** Ids of the folders that claim to be checkpoints. */
export function listFolders(checkpoints: string): string[] {
  return entries(checkpoints).filter((name) => idSchema.safeParse(name).success)
}

/** Removes what unfinished writes and unfinished removals left in a folder of the library. */
export async function removeLeftovers(folder: string): Promise<void> {
  const left = entries(folder).filter((name) => name.startsWith(temporaryPrefix) || name.startsWith(trashPrefix))
  for (const name of left) await rm(join(folder, name), { recursive: true, force: true })
}

/** Removes a checkpoint's folder; it is gone under its name at once. Nothing happens when it was gone already. */
export async function removeFolder(checkpoints: string, id: string): Promise<void> {
  const trash = join(checkpoints, `${trashPrefix}${id}-${randomUUID()}`)
  try {
    renameSync(join(checkpoints, id), trash)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await rm(trash, { recursive: true, force: true })
}

/** The error of a checkpoint that cannot be used. */
export const damaged = (id: string, found: string): AppError =>
  new AppError('checkpoints.damaged', `Checkpoint ${id} cannot be used: ${found}`, {
    params: { id, found },
    hint: 'Use another checkpoint, or restore its folder from a backup.',
  })

function entries(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function readJsonFile(path: string): { value: unknown } | { problem: string } {
  try {
    return { value: JSON.parse(readFileSync(path, 'utf8')) as unknown }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}
