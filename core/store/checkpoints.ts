/** Checkpoints as rows: where each came from and whether its files were good when last read. The files are features/checkpoints'. */
import type { Checkpoint, CheckpointManifest } from '#core/shared/checkpoints.ts'
import { runConfigSchema, type RunConfig } from '#core/shared/runs.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type CheckpointRow = {
  id: string
  run_id: string
  run_name: string
  config: string
  step: number
  tokens: number
  created_at: number
  size_bytes: number
  validation_loss: number | null
  parent_id: string | null
  valid: 0 | 1
}

const select = `SELECT c.id, r.id AS run_id, r.name AS run_name, r.config, c.step, c.tokens, c.created_at, c.size_bytes, c.validation_loss, c.parent_id, c.valid
  FROM checkpoints c JOIN runs r ON r.number = c.run`

/** The checkpoints of a run (of all runs when null), newest first. */
export function listCheckpoints(store: ReadableStore, runId: string | null): Checkpoint[] {
  const rows =
    runId === null
      ? prepare(store, `${select} ORDER BY c.created_at DESC, c.step DESC`).all()
      : prepare(store, `${select} WHERE c.run = (SELECT number FROM runs WHERE id = ?) ORDER BY c.step DESC, c.created_at DESC`).all(runId)
  return (rows as CheckpointRow[]).map(toCheckpoint)
}

export function findCheckpoint(store: ReadableStore, id: string): Checkpoint | null {
  const row = prepare(store, `${select} WHERE c.id = ?`).get(id) as CheckpointRow | undefined
  return row === undefined ? null : toCheckpoint(row)
}

/** Every id with its validity. */
export function checkpointIds(store: ReadableStore): Map<string, boolean> {
  const rows = prepare(store, 'SELECT id, valid FROM checkpoints').all() as { id: string; valid: 0 | 1 }[]
  return new Map(rows.map(({ id, valid }) => [id, valid === 1]))
}

/** Records a checkpoint whose files are known good; one recorded before is updated. */
export function recordCheckpoint(store: WritableStore, run: number, manifest: CheckpointManifest): void {
  const sizeBytes = Object.values(manifest.files).reduce((sum, file) => sum + file.sizeBytes, 0)
  prepare(
    store,
    `INSERT OR REPLACE INTO checkpoints (id, run, step, tokens, created_at, size_bytes, validation_loss, parent_id, mix_id, mix_hash, code_version, valid)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`,
  ).run(
    manifest.id, run, manifest.step, manifest.tokens, manifest.createdAt, sizeBytes,
    manifest.validationLoss, manifest.parentId, manifest.mixId, manifest.mixHash, manifest.codeVersion,
  )
}

export function setCheckpointValid(store: WritableStore, id: string, valid: boolean): void {
  prepare(store, 'UPDATE checkpoints SET valid = ? WHERE id = ?').run(valid ? 1 : 0, id)
}

export function deleteCheckpoint(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM checkpoints WHERE id = ?').run(id)
}

function toCheckpoint(row: CheckpointRow): Checkpoint {
  return {
    id: row.id,
    runId: row.run_id,
    runName: row.run_name,
    step: row.step,
    tokens: row.tokens,
    createdAt: row.created_at,
    sizeBytes: row.size_bytes,
    validationLoss: row.validation_loss,
    parentId: row.parent_id,
    model: readJson<RunConfig>(runConfigSchema, row.config, `runs.config of ${row.run_id}`).model,
    valid: row.valid === 1,
  }
}
