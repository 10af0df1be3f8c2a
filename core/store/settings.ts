/** What the library remembers by key, each value as JSON. The schema of a value is its reader's. */
import { prepare, type ReadableStore, type WritableStore } from './open.ts'

/** The value under `key`, or undefined. */
export function readSetting(store: ReadableStore, key: string): unknown {
  const row = prepare(store, 'SELECT value FROM settings WHERE key = ?').get(key) as { value: string } | undefined
  return row === undefined ? undefined : JSON.parse(row.value)
}

export function writeSetting(store: WritableStore, key: string, value: unknown): void {
  prepare(store, 'INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)').run(key, JSON.stringify(value))
}
