/** Analyses: what was asked of which checkpoint on which text (`key` is a hash of it), and what became of it. The results are files. */
export const analyses = `
CREATE TABLE analyses (
  id TEXT PRIMARY KEY,
  key TEXT NOT NULL,
  created_at REAL NOT NULL,
  ended_at REAL,
  status TEXT NOT NULL CHECK (status IN ('running', 'done', 'stopped', 'failed')),
  spec TEXT NOT NULL,
  tokens REAL,
  error TEXT
) STRICT;
CREATE INDEX analyses_by_key ON analyses (key, status);
`
