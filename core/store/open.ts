/**
 * Opens the library's database and brings it up to date, all migrations in one transaction. Refuses a database from a
 * newer version and one that is damaged, each with an error that says what to do; never repairs or deletes anything.
 * One writing connection, one process (the core): see lock.ts for how a second core is kept out; others may look (openReadOnly).
 */
import { existsSync } from 'node:fs'
import Database from 'better-sqlite3'
import { AppError } from '#core/shared/errors.ts'
import { migrations } from './migrations/list.ts'

declare const readable: unique symbol
declare const writable: unique symbol

/** A store that queries may read. Which of the two a query takes tells whether it writes. */
export type ReadableStore = Database.Database & { readonly [readable]: true }
export type WritableStore = ReadableStore & { readonly [writable]: true }

/**
 * Opens (or makes) the database at `path`; ":memory:" for one that is gone at close.
 * Throws store.future, store.corrupt, or store.unopenable.
 */
export function openStore(path: string): WritableStore {
  const db = connect(path)
  try {
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = NORMAL')
    db.pragma('foreign_keys = ON')
    db.pragma('busy_timeout = 5000')
    checkIntegrity(db, path)
    migrate(db, path)
    return db as WritableStore
  } catch (error) {
    db.close()
    throw readableError(error, path)
  }
}

/**
 * Opens a library's database to look only, beside a core that may be writing to it. Null when there is none of this version's format:
 * making or migrating one is the core's. Throws store.future, store.corrupt.
 */
export function openReadOnly(path: string): ReadableStore | null {
  if (!existsSync(path)) return null
  try {
    const db = new Database(path, { readonly: true, fileMustExist: true, timeout: 5000 })
    const found = db.pragma('user_version', { simple: true }) as number
    if (found === migrations.length) return db as ReadableStore
    db.close()
    if (found > migrations.length) throw fromTheFuture(path, found)
    return null
  } catch (error) {
    throw readableError(error, path)
  }
}

/** Applies the migrations from `user_version` up to `until` (all of them when left out). */
export function migrate(db: Database.Database, path: string, until = migrations.length): void {
  const found = db.pragma('user_version', { simple: true }) as number
  if (found > migrations.length) throw fromTheFuture(path, found)
  db.transaction(() => {
    for (let version = found; version < until; version++) db.exec(migrations[version]!)
    if (found < until) db.pragma(`user_version = ${until}`)
  }).immediate()
}

const fromTheFuture = (path: string, found: number): AppError =>
  new AppError('store.future', `${path} was written by a newer version: its format is ${found}, this version knows formats up to ${migrations.length}`, {
    params: { path, found, known: migrations.length },
    hint: 'Start the newer version, or open another library. Nothing was changed.',
  })

function connect(path: string): Database.Database {
  try {
    return new Database(path)
  } catch (error) {
    throw readableError(error, path)
  }
}

function checkIntegrity(db: Database.Database, path: string): void {
  const answer = db.pragma('quick_check(1)', { simple: true })
  if (answer !== 'ok') throw corrupt(path, String(answer))
}

function readableError(error: unknown, path: string): unknown {
  if (error instanceof AppError || !(error instanceof Error)) return error
  const code = 'code' in error ? String(error.code) : ''
  if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB') return corrupt(path, error.message)
  if (code.startsWith('SQLITE_CANTOPEN') || code.startsWith('SQLITE_READONLY') || error instanceof TypeError) {
    return new AppError('store.unopenable', `${path} could not be opened for writing: ${error.message}`, {
      params: { path },
      hint: 'Check that the folder exists and may be written to.',
      cause: error,
    })
  }
  return error
}

/** The AppError for a write that the disk refused; any other error as it is. */
export function toStoreError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code !== 'SQLITE_FULL' && !code.startsWith('SQLITE_IOERR')) return error
  return new AppError('disk.full', `The library's database could not be written: ${(error as Error).message}`, {
    hint: 'Free some space on its disk, then go on. What was stored before is safe.',
    cause: error,
  })
}

const corrupt = (path: string, found: string): AppError =>
  new AppError('store.corrupt', `${path} is damaged: ${found}`, {
    params: { path, found },
    hint: 'Restore it from a backup, or move it away: checkpoints on disk are found again and their runs with them.',
  })

const statements = new WeakMap<Database.Database, Map<string, Database.Statement>>()

/** The prepared statement of `sql`, compiled once per connection. */
export function prepare(store: ReadableStore, sql: string): Database.Statement {
  let known = statements.get(store)
  if (known === undefined) statements.set(store, (known = new Map()))
  let statement = known.get(sql)
  if (statement === undefined) known.set(sql, (statement = store.prepare(sql)))
  return statement
}

/** Runs `work` in one transaction: all of it is stored or none. */
export function inTransaction<T>(store: WritableStore, work: () => T): T {
  return store.transaction(work)()
}

/** A JSON column as the value its schema describes; a row that does not fit is damage, named by table and row. */
export function readJson<T>(schema: { safeParse(value: unknown): { success: boolean; data?: T; error?: { message: string } } }, text: string, where: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw corrupt(where, 'not JSON')
  }
  const result = schema.safeParse(value)
  if (!result.success) throw corrupt(where, result.error?.message ?? 'unexpected shape')
  return result.data as T
}
