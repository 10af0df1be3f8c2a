/** Which hub data sets come from, and the token for it: as set in the workbench, else HF_ENDPOINT and HF_TOKEN. The token is told to nobody but runners. */
import { z } from 'zod'
import { defaultHub } from '#core/data/download/hugging-face.ts'
import type { Hub } from '#core/shared/sources.ts'
import type { ReadableStore, WritableStore } from '#core/store/open.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'

const key = 'hub'
const storedSchema = z.object({ mirror: z.string().default(''), token: z.string().default('') })

const read = (store: ReadableStore): z.infer<typeof storedSchema> => storedSchema.safeParse(readSetting(store, key) ?? {}).data ?? { mirror: '', token: '' }

export function hubSettings(store: ReadableStore): { hub: string; token: string | null } {
  const { mirror, token } = read(store)
  return { hub: mirror || process.env.HF_ENDPOINT || defaultHub, token: token || process.env.HF_TOKEN || null }
}

export function describeHub(store: ReadableStore): Hub {
  return { mirror: read(store).mirror, hasToken: hubSettings(store).token !== null }
}

export function changeHub(store: WritableStore, change: { mirror?: string | undefined; token?: string | undefined }): void {
  const before = read(store)
  writeSetting(store, key, { mirror: change.mirror ?? before.mirror, token: change.token ?? before.token })
}
