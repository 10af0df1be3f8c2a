/** Opening the library's database: migrations, a database from the future, damage. Real files. */
import { mkdtempSync, openSync, rmSync, writeFileSync, writeSync, closeSync, statSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, onTestFinished, test } from 'vitest'
import { branchTo } from '#core/shared/chat-tree.ts'
import { findChat, findMessages } from '#core/store/chats.ts'
import { listRuns } from '#core/store/runs.ts'
import { migrations } from '#core/store/migrations/list.ts'
import { migrate, openStore } from '#core/store/open.ts'
import { recipe } from '../features/recipe.ts'

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'moe-store-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

test('a new database has every migration, strict tables and the settings of a safe store', () => {
  const path = join(folder(), 'library.sqlite')
  const store = openStore(path)
  expect(store.pragma('user_version', { simple: true })).toBe(migrations.length)
  expect(store.pragma('journal_mode', { simple: true })).toBe('wal')
  expect(store.pragma('foreign_keys', { simple: true })).toBe(1)
  const tables = store.pragma('table_list') as { name: string; schema: string; type: string; strict: number }[]
  expect(tables.filter(({ name, schema, type, strict }) => schema === 'main' && type === 'table' && !name.startsWith('sqlite_') && strict !== 1)).toEqual([])
  store.close()
  const again = openStore(path)
  expect(listRuns(again)).toEqual([])
  again.close()
})

test('migrations go one by one to the same schema as all at once, and a failing one changes nothing', () => {
  const schema = (db: Database.Database): unknown => db.prepare('SELECT type, name, sql FROM sqlite_schema ORDER BY name').all()
  const [stepwise, whole] = [new Database(':memory:'), new Database(':memory:')]
  for (let version = 1; version <= migrations.length; version++) migrate(stepwise, ':memory:', version)
  migrate(whole, ':memory:')
  expect(schema(stepwise)).toEqual(schema(whole))

  const clash = new Database(':memory:')
  clash.exec('CREATE TABLE jobs (x)')
  expect(() => migrate(clash, ':memory:')).toThrow(/jobs/)
  expect(clash.pragma('user_version', { simple: true })).toBe(0)
  expect(schema(clash)).toMatchObject([{ name: 'jobs' }])
})

test('a library of the first format keeps its runs, which do not know yet what they ran on', () => {
  const path = join(folder(), 'library.sqlite')
  const old = new Database(path)
  migrate(old, path, 1)
  const { device: _device, adapter: _adapter, precision: _precision, ...config } = recipe({ name: 'Old' })
  old.prepare("INSERT INTO runs (id, name, status, config, created_at, queued_at) VALUES ('old', 'Old', 'done', ?, 1, 1)").run(JSON.stringify(config))
  old.close()
  const store = openStore(path)
  expect(listRuns(store)).toMatchObject([{ id: 'old', runningOn: null, config: { device: 'cpu', adapter: null, precision: 'float32' } }])
  store.close()
})

test('chats of an older format become one branch each, found by their words', () => {
  const path = join(folder(), 'library.sqlite')
  const old = new Database(path)
  migrate(old, path, 6)
  old.exec(`INSERT INTO chats VALUES ('a', 'c-1', 'A', 1), ('b', 'c-2', 'B', 2), ('empty', 'c-2', '', 3)`)
  const say = old.prepare("INSERT INTO messages (id, chat_id, role, text, tokens, created_at) VALUES (?, ?, ?, ?, '[]', ?)")
  for (let turn = 0; turn < 3; turn++) for (const chat of ['a', 'b']) for (const role of ['user', 'model']) say.run(`${chat}${turn}${role}`, chat, role, `${role} of ${chat}, turn ${turn}`, 10 + turn)
  old.close()
  const store = openStore(path)
  const chat = findChat(store, 'a')!
  expect(chat).toMatchObject({ updatedAt: 12, systemPrompt: '', sampling: null, columns: [{ checkpointId: 'c-1', leafId: 'a2model' }] })
  expect(branchTo(chat.messages, 'a2model').map(({ id, checkpointId }) => [id, checkpointId])).toEqual([['a0user', null], ['a0model', 'c-1'], ['a1user', null], ['a1model', 'c-1'], ['a2user', null], ['a2model', 'c-1']])
  expect(findChat(store, 'empty')).toMatchObject({ updatedAt: 3, columns: [{ leafId: null }], messages: [] })
  expect(findMessages(store, ['turn', '1'])).toEqual([expect.objectContaining({ chatId: 'a', messageId: 'a1model' }), expect.objectContaining({ chatId: 'b', messageId: 'b1model' })])
  store.close()
})

test('a database from the future is refused by name and left alone', () => {
  const path = join(folder(), 'library.sqlite')
  const future = new Database(path)
  future.pragma('user_version = 900')
  future.close()
  const before = readFileSync(path)
  expect(() => openStore(path)).toThrow(expect.objectContaining({ code: 'store.future', params: { path, found: 900, known: migrations.length } }))
  expect(readFileSync(path).subarray(100)).toEqual(before.subarray(100))
})

test('what is no database is said so', () => {
  const path = join(folder(), 'library.sqlite')
  writeFileSync(path, 'a letter to grandmother, which is long enough to be read as a header of a database page. '.repeat(20))
  expect(() => openStore(path)).toThrow(expect.objectContaining({ code: 'store.corrupt' }))
})

test('a damaged page is found at opening', () => {
  const path = join(folder(), 'library.sqlite')
  const store = openStore(path)
  const insert = store.prepare('INSERT INTO settings (key, value) VALUES (?, ?)')
  for (let i = 0; i < 2000; i++) insert.run(`key ${i}`, 'x'.repeat(100))
  store.pragma('wal_checkpoint(TRUNCATE)')
  store.close()
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(4096 * 8, 0xa5), 0, 4096 * 8, Math.floor(statSync(path).size / 2 / 4096) * 4096)
  closeSync(file)
  expect(() => openStore(path)).toThrow(expect.objectContaining({ code: 'store.corrupt', hint: expect.stringContaining('backup') }))
})

test('a folder that is not there is said so', () => {
  expect(() => openStore(join(folder(), 'nowhere', 'library.sqlite'))).toThrow(expect.objectContaining({ code: 'store.unopenable' }))
})
