/**
 * Keys of the API. A key is 256 random bits, shown once and never stored: the library keeps its SHA-256, which needs no salt for a secret
 * that cannot be guessed. Compared in constant time.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { apiKeySchema, type ApiKey } from '#core/shared/api-server.ts'
import type { Host } from '#core/shared/host.ts'
import type { WritableStore } from '#core/store/open.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'

const settingsKey = 'api.keys'
const storedSchema = z.array(apiKeySchema.extend({ hash: z.string().regex(/^[0-9a-f]{64}$/) }))

export type Keys = {
  list(): ApiKey[]
  /** A new key; `secret` is not to be had again. */
  create(name: string): { key: ApiKey; secret: string }
  remove(id: string): void
  has(secret: string): boolean
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

export function createKeys({ host, store }: { host: Host; store: WritableStore }): Keys {
  const read = (): z.infer<typeof storedSchema> => storedSchema.safeParse(readSetting(store, settingsKey)).data ?? []
  return {
    list: () => read().map(({ hash: _, ...key }) => key),
    create(name) {
      const secret = `moe-${randomBytes(32).toString('base64url')}`
      const key: ApiKey = { id: host.newId(), name, start: secret.slice(0, 8), createdAt: host.now() }
      writeSetting(store, settingsKey, [...read(), { ...key, hash: digest(secret).toString('hex') }])
      return { key, secret }
    },
    remove: (id) => writeSetting(store, settingsKey, read().filter((key) => key.id !== id)),
    has(secret) {
      const given = digest(secret)
      // Every key is looked at: which of them it was is not in the time either.
      return read().filter(({ hash }) => timingSafeEqual(given, Buffer.from(hash, 'hex'))).length > 0
    },
  }
}
