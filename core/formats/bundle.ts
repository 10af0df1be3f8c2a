/**
 * A release bundle: one folder with everything that "fully open" means. README.md (the model card), records/ (recipe, series, log, lineage,
 * data manifest), checkpoints/<id>/ as the library has them, and bundle.json with the hash of every file. Reading one trusts nothing: names
 * must stay inside, and every byte is held against its hash before a checkpoint is taken over.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { manifestSchema, type CheckpointManifest } from '#core/shared/checkpoints.ts'
import { idSchema } from '#core/shared/common.ts'
import { AppError } from '#core/shared/errors.ts'
import { copyFileHashed, sha256File, writeFileAtomic, writeFolderAtomic, type WrittenFile } from './atomic.ts'

export const bundleFileName = 'bundle.json'
const optimizerFile = 'optimizer.safetensors'

const fileSchema = z.object({ sizeBytes: z.int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) })
const relativeName = /^[A-Za-z0-9_-][\w.-]*(\/[A-Za-z0-9_-][\w.-]*)*$/
const bundleSchema = z.object({
  format: z.literal('moe-workbench-bundle'),
  version: z.literal(1),
  codeVersion: z.string(),
  runId: idSchema,
  checkpointIds: z.array(idSchema).min(1),
  files: z.record(z.string().regex(relativeName), fileSchema),
})
export type Bundle = z.output<typeof bundleSchema>

export type BundleContent = { records: string; runId: string; checkpointIds: readonly string[]; codeVersion: string; optimizer: boolean }
export type BundleProgress = (done: number, total: number, unit: 'bytes') => void

function damaged(path: string, found: string): AppError {
  return new AppError('bundle.damaged', `${path}: ${found}`, { params: { file: path, found }, hint: 'Fetch the bundle again; nothing of it was taken over.' })
}

const manifestIn = (checkpoints: string, id: string): CheckpointManifest => manifestSchema.parse(JSON.parse(readFileSync(join(checkpoints, id, 'manifest.json'), 'utf8')))
const hasOptimizer = (checkpoints: string, id: string): boolean => optimizerFile in manifestIn(checkpoints, id).files

/** The manifest of a checkpoint as it goes into a bundle: without the optimizer's file where that stays behind. */
function manifestFor(checkpoints: string, id: string, withOptimizer: boolean): CheckpointManifest {
  const manifest = manifestIn(checkpoints, id)
  if (withOptimizer) return manifest
  return { ...manifest, files: Object.fromEntries(Object.entries(manifest.files).filter(([name]) => name !== optimizerFile)) }
}

/** Writes the bundle `out`: the checkpoints, and all that lies in `records` (its README.md becomes the bundle's). Throws `bundle.damaged` for a checkpoint that is. */
export function writeBundle(checkpoints: string, out: string, { records, runId, checkpointIds, codeVersion, optimizer }: BundleContent, onProgress: BundleProgress): Promise<Record<string, WrittenFile>> {
  const manifests = checkpointIds.map((id) => manifestFor(checkpoints, id, optimizer))
  const total = manifests.reduce((sum, { files }) => sum + Object.values(files).reduce((bytes, file) => bytes + file.sizeBytes, 0), 0)
  let done = 0
  const onBytes = (bytes: number): void => onProgress((done += bytes), total, 'bytes')
  return writeFolderAtomic(out, async (folder) => {
    const files: Record<string, WrittenFile> = {}
    for (const manifest of manifests) {
      const at = `checkpoints/${manifest.id}`
      mkdirSync(join(folder, at), { recursive: true })
      for (const [name, expected] of Object.entries(manifest.files)) {
        const copied = await copyFileHashed(join(checkpoints, manifest.id, name), join(folder, at, name), onBytes)
        if (copied.sha256 !== expected.sha256) throw damaged(join(checkpoints, manifest.id, name), 'does not match its hash')
        files[`${at}/${name}`] = copied
      }
      const to = join(folder, at, 'manifest.json')
      const isWhole = optimizer || !hasOptimizer(checkpoints, manifest.id)
      files[`${at}/manifest.json`] = isWhole ? await copyFileHashed(join(checkpoints, manifest.id, 'manifest.json'), to) : await writeFileAtomic(to, [`${JSON.stringify(manifest, null, 2)}\n`])
    }
    mkdirSync(join(folder, 'records'))
    for (const name of readdirSync(records).sort()) {
      const to = name === 'README.md' ? name : `records/${name}`
      files[to] = await copyFileHashed(join(records, name), join(folder, to))
    }
    const bundle: Bundle = { format: 'moe-workbench-bundle', version: 1, codeVersion, runId, checkpointIds: [...checkpointIds], files }
    return { ...files, [bundleFileName]: await writeFileAtomic(join(folder, bundleFileName), [`${JSON.stringify(bundle, null, 2)}\n`]) }
  })
}

/** What a bundle says it holds. Throws `bundle.damaged`. */
export function readBundle(path: string): Bundle {
  const file = join(path, bundleFileName)
  let json: unknown
  try {
    json = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw damaged(file, error instanceof SyntaxError ? 'is not JSON' : 'cannot be read')
  }
  const parsed = bundleSchema.safeParse(json)
  if (!parsed.success) throw damaged(file, `${parsed.error.issues[0]!.path.join('.')}: ${parsed.error.issues[0]!.message}`)
  return parsed.data
}

/** Reads every file of a bundle against its hash. Throws `bundle.damaged` naming the first that differs, is missing or was not announced. */
export async function verifyBundle(path: string, onProgress: BundleProgress = () => undefined): Promise<Bundle> {
  const bundle = readBundle(path)
  const total = Object.values(bundle.files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  let done = 0
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
    const name = join(entry.parentPath, entry.name).slice(join(path, '/').length).replaceAll('\\', '/')
    if (entry.isDirectory() || name === bundleFileName) continue
    if (!entry.isFile() || !(name in bundle.files)) throw damaged(join(path, name), 'is not in bundle.json')
  }
  for (const [name, { sizeBytes, sha256 }] of Object.entries(bundle.files)) {
    const found = statSync(join(path, name), { throwIfNoEntry: false })?.size
    if (found !== sizeBytes) throw damaged(join(path, name), `has ${found ?? 'no'} bytes, expected ${sizeBytes}`)
    if ((await sha256File(join(path, name), (bytes) => onProgress((done += bytes), total, 'bytes'))) !== sha256) throw damaged(join(path, name), 'does not match its hash')
  }
  return bundle
}

/** Verifies a bundle whole and takes its checkpoints over under their own ids. Throws `bundle.damaged` and `bundle.alreadyThere`. */
export async function importBundle(path: string, checkpoints: string, onProgress: (phase: 'verify' | 'weights', done: number, total: number, unit: 'bytes' | 'files') => void): Promise<CheckpointManifest[]> {
  const { checkpointIds, runId } = await verifyBundle(path, (done, total, unit) => onProgress('verify', done, total, unit))
  const manifests: CheckpointManifest[] = []
  for (const id of checkpointIds) {
    const file = join(path, 'checkpoints', id, 'manifest.json')
    const manifest = manifestSchema.safeParse(existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null)
    if (!manifest.success || manifest.data.id !== id || manifest.data.runId !== runId) throw damaged(file, 'is not the manifest of that checkpoint')
    if (existsSync(join(checkpoints, id))) throw new AppError('bundle.alreadyThere', `checkpoint ${id} is in this library already`, { params: { id }, hint: 'Delete it there first, or import the bundle into another library.' })
    manifests.push(manifest.data)
  }
  for (const [index, { id }] of manifests.entries()) {
    onProgress('weights', index, manifests.length, 'files')
    await writeFolderAtomic(join(checkpoints, id), async (folder) => cpSync(join(path, 'checkpoints', id), folder, { recursive: true }))
  }
  return manifests
}

/** A file of records of a verified bundle, or null. */
export function readRecord(path: string, name: string): string | null {
  const file = join(path, 'records', name)
  return existsSync(file) && dirname(file) === join(path, 'records') ? readFileSync(file, 'utf8') : null
}
