/**
 * The first tables. Runs have a number beside their id: it is the key of the series, where a million rows carry it.
 * Metrics are clustered by (run, key, step), so one series is one contiguous range. Times are Unix milliseconds.
 */
export const first = `
CREATE TABLE runs (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'stopping', 'done', 'stopped', 'interrupted', 'failed')),
  config TEXT NOT NULL,
  mix_id TEXT,
  created_at REAL NOT NULL,
  queued_at REAL NOT NULL,
  started_at REAL,
  ended_at REAL,
  step INTEGER NOT NULL DEFAULT 0,
  tokens REAL NOT NULL DEFAULT 0,
  seconds REAL NOT NULL DEFAULT 0,
  heartbeat_at REAL,
  error TEXT
) STRICT;
CREATE INDEX runs_by_status ON runs (status, queued_at);
CREATE INDEX runs_by_time ON runs (created_at);

CREATE TABLE metric_keys (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE metrics (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  key INTEGER NOT NULL REFERENCES metric_keys,
  step INTEGER NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (run, key, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE expert_loads (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  step INTEGER NOT NULL,
  counts BLOB NOT NULL,
  PRIMARY KEY (run, step)
) STRICT;

CREATE TABLE run_log (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  at REAL NOT NULL,
  level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
  text TEXT NOT NULL
) STRICT;
CREATE INDEX run_log_by_run ON run_log (run, id);

CREATE TABLE checkpoints (
  id TEXT PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  step INTEGER NOT NULL,
  tokens REAL NOT NULL,
  created_at REAL NOT NULL,
  size_bytes REAL NOT NULL,
  validation_loss REAL,
  parent_id TEXT,
  mix_id TEXT NOT NULL,
  mix_hash TEXT NOT NULL,
  code_version TEXT NOT NULL,
  valid INTEGER NOT NULL CHECK (valid IN (0, 1))
) STRICT;
CREATE INDEX checkpoints_by_run ON checkpoints (run, step);

CREATE TABLE mixes (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL,
  created_at REAL NOT NULL,
  mix TEXT NOT NULL
) STRICT;

CREATE TABLE chats (
  id TEXT PRIMARY KEY,
  checkpoint_id TEXT NOT NULL,
  title TEXT NOT NULL,
  created_at REAL NOT NULL
) STRICT;
CREATE INDEX chats_by_time ON chats (created_at);

CREATE TABLE messages (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  chat_id TEXT NOT NULL REFERENCES chats ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('user', 'model')),
  text TEXT NOT NULL,
  tokens TEXT NOT NULL,
  created_at REAL NOT NULL,
  ended TEXT CHECK (ended IN ('length', 'eos', 'stopped', 'failed')),
  tokens_per_second REAL,
  first_token_ms REAL,
  seed INTEGER
) STRICT;
CREATE INDEX messages_by_chat ON messages (chat_id, number);

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  run INTEGER REFERENCES runs ON DELETE CASCADE,
  pid INTEGER NOT NULL,
  process_start TEXT,
  started_at REAL NOT NULL,
  ended_at REAL,
  outcome TEXT
) STRICT;
CREATE INDEX jobs_under_way ON jobs (started_at) WHERE ended_at IS NULL;
`
