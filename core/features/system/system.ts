/** Calls about the machine, the library and the remembered settings. */
import { readdir, stat, statfs } from 'node:fs/promises'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { settingsSchema, type Settings } from '#core/shared/system.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'
import { api } from '../api.ts'
import type { Services } from '../services.ts'

const settingsKey = 'settings'

export const systemRouter = api.system.router({
  about: api.system.about.handler(async ({ context: { host, devices, supervisor } }) => {
    // Measured in the background, and not beside a training: whoever asks again finds it.
    const cpu = devices.known()?.find(({ kind }) => kind === 'cpu')
    if (!cpu?.measured && !supervisor.isBusy()) devices.warmUp()
    const [libraryBytes, disk] = await Promise.all([folderBytes(host.libraryPath), statfs(host.libraryPath)])
    return {
      version: host.version,
      libraryPath: host.libraryPath,
      libraryBytes,
      freeBytes: disk.bavail * disk.bsize,
      host: host.kind,
      platform: `${process.platform} ${process.arch}`,
      cpu: { name: cpu?.name ?? cpus()[0]?.model.trim() ?? '', cores: cpu?.threads ?? availableParallelism(), isa: cpu?.architecture ?? '' },
      memoryBytes: totalmem(),
      peakFlopsPerSecond: cpu?.measured?.flopsPerSecond ?? null,
    }
  }),

  settings: api.system.settings.handler(({ context }) => readSettings(context)),

  updateSettings: api.system.updateSettings.handler(({ input, context }) => {
    const before = readSettings(context)
    const settings: Settings = { ...before, ...input, views: { ...before.views, ...input.views } }
    writeSetting(context.store, settingsKey, settings)
    return settings
  }),
})

/** The stored settings; those that a later version wrote differently fall back to their defaults. */
function readSettings({ store }: Pick<Services, 'store'>): Settings {
  const stored = settingsSchema.safeParse(readSetting(store, settingsKey) ?? {})
  return stored.success ? stored.data : settingsSchema.parse({})
}

/** Bytes of all files under a folder. Files that go while it counts count as nothing. */
export async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const sizes = entries.map(async (entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return folderBytes(path)
    return entry.isFile() ? (await stat(path).catch(() => ({ size: 0 }))).size : 0
  })
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0)
}
