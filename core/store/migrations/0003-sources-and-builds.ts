/** Sources that the library keeps, and mixes on their way: their drafts outlive a restart. */
export const sourcesAndBuilds = `
CREATE TABLE sources (
  id TEXT PRIMARY KEY,
  created_at REAL NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('fetching', 'looking', 'ready', 'stopped', 'failed')),
  spec TEXT NOT NULL,
  origin TEXT NOT NULL,
  report TEXT,
  error TEXT
) STRICT;

CREATE TABLE builds (
  id TEXT PRIMARY KEY,
  created_at REAL NOT NULL,
  changed_at REAL NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('draft', 'queued', 'running', 'done', 'stopped', 'interrupted', 'failed')),
  draft TEXT NOT NULL,
  mix_id TEXT,
  error TEXT
) STRICT;
CREATE INDEX builds_by_status ON builds (status, changed_at);
`
