/** What checkpoints were measured by, and what came out. A measurement outlives its checkpoint, not its run. */
export const evaluations = `
CREATE TABLE evaluations (
  id TEXT PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  checkpoint_id TEXT NOT NULL,
  step INTEGER NOT NULL,
  tokens REAL NOT NULL,
  created_at REAL NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'stopped')),
  tasks TEXT NOT NULL,
  results TEXT NOT NULL,
  error TEXT
) STRICT;
CREATE INDEX evaluations_by_run ON evaluations (run, step);
`
