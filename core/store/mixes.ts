/** Mixes as rows: what the builder said of each. */
import { mixSchema, type Mix } from '#core/shared/mixes.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

/** All mixes, newest first. */
export function listMixes(store: ReadableStore): Mix[] {
  const rows = prepare(store, 'SELECT id, mix FROM mixes ORDER BY created_at DESC').all() as { id: string; mix: string }[]
  return rows.map(({ id, mix }) => readJson<Mix>(mixSchema, mix, `mixes.mix of ${id}`))
}

export function findMix(store: ReadableStore, id: string): Mix | null {
  const row = prepare(store, 'SELECT mix FROM mixes WHERE id = ?').get(id) as { mix: string } | undefined
  return row === undefined ? null : readJson<Mix>(mixSchema, row.mix, `mixes.mix of ${id}`)
}

/** Records a mix that is in place; one recorded before is updated. */
export function recordMix(store: WritableStore, mix: Mix): void {
  prepare(store, 'INSERT OR REPLACE INTO mixes (id, hash, created_at, mix) VALUES (?, ?, ?, ?)').run(mix.id, mix.hash, mix.createdAt, JSON.stringify(mix))
}

export function deleteMix(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM mixes WHERE id = ?').run(id)
}
